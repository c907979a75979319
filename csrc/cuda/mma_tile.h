// A block's tile of a product in half types, by tensor-core instructions.
#pragma once

#include "cuda/ptx.h"

namespace shared_dense::cuda {

// An operand lies in shared memory as lines of contiguous items in 16-byte
// chunks: a line is a row of A or a column of B, along the depth (`by depth`),
// or else one step of the depth. kWarpRows x kWarpColumns is a warp's part.
template <class S, int kRows_, int kColumns_, int kDepth_, int kWarpRows, int kWarpColumns,
          int kStages_, bool kAByDepth_, bool kBByDepth_>
class MmaTile {
 public:
  using Storage = S;
  using Sum = float;
  static constexpr int kRows = kRows_, kColumns = kColumns_, kDepth = kDepth_, kStages = kStages_;
  static constexpr bool kAByDepth = kAByDepth_, kBByDepth = kBByDepth_;
  static constexpr int kThreads = 32 * (kRows / kWarpRows) * (kColumns / kWarpColumns);
  static constexpr int kABytes = kRows * kDepth * 2, kBBytes = kDepth * kColumns * 2;

  // Where a chunk stands, in bytes. The exclusive or makes the eight rows of a
  // matrix that ldmatrix reads fall on different banks.
  template <int kLength>
  __device__ static int place(int line, int chunk) {
    constexpr int chunks = kLength / 8;
    static_assert(chunks == 4 || chunks % 8 == 0, "lines of 64 bytes or of multiples of 128");
    const int turn = chunks == 4 ? (line >> 1) & 3 : line & 7;
    return (line * chunks + (chunk ^ turn)) * 16;
  }

  __device__ MmaTile() {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    row_ = warp / (kColumns / kWarpColumns) * kWarpRows;
    column_ = warp % (kColumns / kWarpColumns) * kWarpColumns;
    matrix_ = lane / 8;
    line_ = lane % 8;
#pragma unroll
    for (int i = 0; i < kRowSteps; ++i) {
#pragma unroll
      for (int j = 0; j < kColumnSteps; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sum_[i][j][e] = 0;
      }
    }
  }

  // sum += A . B for one stage, sixteen of the depth at a time.
  __device__ void multiply(const unsigned char* a, const unsigned char* b) {
#pragma unroll
    for (int k = 0; k < kDepth; k += 16) {
      std::uint32_t left[kRowSteps][4], right[kColumnSteps / 2][4];
#pragma unroll
      for (int i = 0; i < kRowSteps; ++i) load_a(left[i], a, row_ + 16 * i, k);
#pragma unroll
      for (int j = 0; j < kColumnSteps / 2; ++j) load_b(right[j], b, column_ + 16 * j, k);
#pragma unroll
      for (int i = 0; i < kRowSteps; ++i) {
#pragma unroll
        for (int j = 0; j < kColumnSteps; ++j) {
          multiply_add(sum_[i][j], left[i], right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1],
                       S{});
        }
      }
    }
  }

  // Calls put(row, column, sum) for each of this thread's sums.
  template <class Put>
  __device__ void visit(const Put& put) const {
    const int group = threadIdx.x % 32 / 4, pair = threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < kRowSteps; ++i) {
#pragma unroll
      for (int j = 0; j < kColumnSteps; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          put(row_ + 16 * i + group + e / 2 * 8, column_ + 8 * j + pair + e % 2, sum_[i][j][e]);
        }
      }
    }
  }

 private:
  static constexpr int kRowSteps = kWarpRows / 16, kColumnSteps = kWarpColumns / 8;
  static_assert(kWarpRows % 16 == 0 && kWarpColumns % 16 == 0 && kDepth % 16 == 0, "");

  // Matrices 0 and 1 are the upper and the lower eight rows, 2 and 3 the same
  // of the next eight columns: the order of multiply_add.
  __device__ void load_a(std::uint32_t (&r)[4], const unsigned char* a, int row, int k) const {
    if constexpr (kAByDepth) {
      load_matrices(r, a + place<kDepth>(row + matrix_ % 2 * 8 + line_, k / 8 + matrix_ / 2));
    } else {
      load_matrices_transposed(
          r, a + place<kRows>(k + matrix_ / 2 * 8 + line_, row / 8 + matrix_ % 2));
    }
  }

  // Matrices 0 and 1 are the depths of the first eight columns, 2 and 3 those
  // of the next.
  __device__ void load_b(std::uint32_t (&r)[4], const unsigned char* b, int column, int k) const {
    if constexpr (kBByDepth) {
      load_matrices(r, b + place<kDepth>(column + matrix_ / 2 * 8 + line_, k / 8 + matrix_ % 2));
    } else {
      load_matrices_transposed(
          r, b + place<kColumns>(k + matrix_ % 2 * 8 + line_, column / 8 + matrix_ / 2));
    }
  }

  int row_, column_, matrix_, line_;
  float sum_[kRowSteps][kColumnSteps][4];
};

}  // namespace shared_dense::cuda
