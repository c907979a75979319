// A block's tile of a product in float, by tensor-core instructions that take
// each factor rounded to TensorFloat-32.
#pragma once

#include "cuda/ptx.h"

namespace shared_dense::cuda {

// As MmaTile, whose sums it has: kWarpRows x kWarpColumns is a warp's part.
template <int kRows_, int kColumns_, int kDepth_, int kWarpRows, int kWarpColumns, int kStages_,
          bool kAByDepth_, bool kBByDepth_>
class Tf32Tile {
  // Items of a line and a pad that makes what a warp reads at once fall on
  // different banks: eight lines of 16 bytes along the depth (the pad is an odd
  // number of them), or eight items of each of four lines.
  template <int kLength>
  static constexpr int kPitch = kLength + (kLength == kDepth_ ? 4 : 8);

 public:
  using Storage = float;
  using Sum = float;
  static constexpr int kRows = kRows_, kColumns = kColumns_, kDepth = kDepth_, kStages = kStages_;
  static constexpr bool kAByDepth = kAByDepth_, kBByDepth = kBByDepth_;
  static constexpr int kThreads = 32 * (kRows / kWarpRows) * (kColumns / kWarpColumns);
  static constexpr int kABytes =
      (kAByDepth ? kRows * kPitch<kDepth> : kDepth * kPitch<kRows>)*sizeof(float);
  static constexpr int kBBytes =
      (kBByDepth ? kColumns * kPitch<kDepth> : kDepth * kPitch<kColumns>)*sizeof(float);

  template <int kLength>
  __device__ static int place(int line, int chunk) {
    return (line * kPitch<kLength> + chunk * 4) * static_cast<int>(sizeof(float));
  }

  __device__ Tf32Tile() {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    row_ = warp / (kColumns / kWarpColumns) * kWarpRows;
    column_ = warp % (kColumns / kWarpColumns) * kWarpColumns;
    matrix_ = lane / 8;
    line_ = lane % 8;
    group_ = lane / 4;
    step_ = lane % 4;
#pragma unroll
    for (int i = 0; i < kRowSteps; ++i) {
#pragma unroll
      for (int j = 0; j < kColumnSteps; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sum_[i][j][e] = 0;
      }
    }
  }

  // sum += A . B for one stage, eight of the depth at a time. Unrolled further,
  // ptxas fetches more ahead than registers hold.
  __device__ void multiply(const unsigned char* a, const unsigned char* b) {
#pragma unroll 2
    for (int k = 0; k < kDepth; k += 8) {
      std::uint32_t left[kRowSteps][4], right[kColumnSteps / 2][4];
#pragma unroll
      for (int i = 0; i < kRowSteps; ++i) load_a(left[i], a, row_ + 16 * i, k);
#pragma unroll
      for (int j = 0; j < kColumnSteps / 2; ++j) load_b(right[j], b, column_ + 16 * j, k);
#pragma unroll
      for (int i = 0; i < kRowSteps; ++i) {
#pragma unroll
        for (int j = 0; j < kColumnSteps; ++j) {
          multiply_add_tf32(sum_[i][j], left[i], right[j / 2][j % 2 * 2],
                            right[j / 2][j % 2 * 2 + 1]);
        }
      }
    }
  }

  // Calls put(row, column, sum) for each of this thread's sums.
  template <class Put>
  __device__ void visit(const Put& put) const {
#pragma unroll
    for (int i = 0; i < kRowSteps; ++i) {
#pragma unroll
      for (int j = 0; j < kColumnSteps; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          put(row_ + 16 * i + group_ + e / 2 * 8, column_ + 8 * j + 2 * step_ + e % 2,
              sum_[i][j][e]);
        }
      }
    }
  }

 private:
  static constexpr int kRowSteps = kWarpRows / 16, kColumnSteps = kWarpColumns / 8;
  static_assert(kWarpRows % 16 == 0 && kWarpColumns % 16 == 0 && kDepth % 8 == 0, "");
  static_assert(kRows != kDepth && kColumns != kDepth, "a line's length says which way it lies");

  __device__ static const float* item(const unsigned char* from, int line, int column, int pitch) {
    return reinterpret_cast<const float*>(from) + line * pitch + column;
  }

  // Registers 0 and 1 are the upper and the lower eight rows of the first four
  // columns, 2 and 3 the same of the next four: the order of multiply_add_tf32.
  __device__ void load_a(std::uint32_t (&r)[4], const unsigned char* a, int row, int k) const {
    if constexpr (kAByDepth) {
      // Rows of eight items of 16 bits are as good as four of 32.
      load_matrices(r, a + place<kDepth>(row + matrix_ % 2 * 8 + line_, k / 4 + matrix_ / 2));
#pragma unroll
      for (int e = 0; e < 4; ++e) r[e] = round_to_tf32(r[e]);
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        r[e] =
            round_to_tf32(*item(a, k + step_ + e / 2 * 4, row + group_ + e % 2 * 8, kPitch<kRows>));
      }
    }
  }

  // Registers 0 and 1 are the first and the next four rows of the first eight
  // columns, 2 and 3 the same of the next eight.
  __device__ void load_b(std::uint32_t (&r)[4], const unsigned char* b, int column, int k) const {
    if constexpr (kBByDepth) {
      load_matrices(r, b + place<kDepth>(column + matrix_ / 2 * 8 + line_, k / 4 + matrix_ % 2));
#pragma unroll
      for (int e = 0; e < 4; ++e) r[e] = round_to_tf32(r[e]);
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        r[e] = round_to_tf32(
            *item(b, k + step_ + e % 2 * 4, column + group_ + e / 2 * 8, kPitch<kColumns>));
      }
    }
  }

  int row_, column_, matrix_, line_, group_, step_;
  float sum_[kRowSteps][kColumnSteps][4];
};

}  // namespace shared_dense::cuda
