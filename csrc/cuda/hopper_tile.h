// A block's tile of a product in half types by wgmma, in stages of 64 of the depth.
#pragma once

#include <type_traits>

#include "cuda/hopper.h"

namespace shared_dense::cuda {

// The threads that fetch: a warpgroup of their own.
constexpr int kProducers = 128;

constexpr int kChunk = 8;  // items of 16 bytes

// D[m, n] with m of kGroups warpgroups, 64 each, and kN columns; kCluster blocks,
// each with the next kM of m, share their right operand. An operand lies
// in shared memory as lines of 64 items: rows of M (or N) along the depth (`by
// depth`), or else steps of the depth, then in panels of 64 lines. The eight
// 16-byte chunks of a line are exchanged by the line's number: the layout that
// the copy engine writes and wgmma reads (128-byte swizzle), and that needs
// stages at multiples of 1024 bytes.
template <class S, int kGroups_, int kN_, int kStages_, bool kLeftByDepth_, bool kRightByDepth_,
          int kCluster_ = 1>
class HopperTile {
 public:
  using Storage = S;
  static constexpr int kGroups = kGroups_, kM = 64 * kGroups, kN = kN_, kDepth = kLine;
  static constexpr int kStages = kStages_, kCluster = kCluster_;
  static constexpr bool kLeftByDepth = kLeftByDepth_, kRightByDepth = kRightByDepth_;
  static constexpr int kThreads = kProducers + 128 * kGroups;
  static constexpr int kLineBytes = 2 * kLine, kPanelBytes = 64 * kLineBytes;
  static constexpr int kLeftBytes = kM * kLineBytes, kRightBytes = kN * kLineBytes;
  static constexpr int kStageBytes = kLeftBytes + kRightBytes;
  static constexpr int kSums = kN / 2;  // of a thread
  static constexpr int kAlignment = 1024;
  static constexpr std::size_t kSharedBytes =
      kAlignment + kStages * (kStageBytes + 2 * sizeof(Barrier));
  static_assert(kRightByDepth || kN % 64 == 0, "whole panels");

  // Where a chunk of a line of an operand is, in bytes.
  __device__ static int place(int line, int chunk) {
    return line * kLineBytes + ((chunk ^ (line & 7)) << 4);
  }

  // d += A . B of one stage, of warpgroup `group`: starts a group of multiplies.
  __device__ static void multiply(float (&d)[kSums], const unsigned char* stage, int group) {
    const std::uint64_t a = describe<kLeftByDepth>(stage + group * kPanelBytes);
    const std::uint64_t b = describe<kRightByDepth>(stage + kLeftBytes);
    fence_multiplies();
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k) {
      multiply_async<!kLeftByDepth, !kRightByDepth>(d, a + k * kStep<kLeftByDepth>,
                                                    b + k * kStep<kRightByDepth>, S{});
    }
    commit_multiplies();
  }

 private:
  // Sixteen of the depth, in the descriptor's units of 16 bytes.
  template <bool kByDepth>
  static constexpr std::uint64_t kStep = (kByDepth ? 16 * 2 : 16 * kLineBytes) / 16;

  // A matrix descriptor of the PTX ISA, offsets in units of 16 bytes. Bits 0 to
  // 13: address; 16 to 29: from one panel to the next (by depth there is one; 1
  // then, as it is not used); 32 to 45: from eight lines to the next eight; 62
  // and 63: 1, the 128-byte swizzle.
  template <bool kByDepth>
  __device__ static std::uint64_t describe(const unsigned char* operand) {
    constexpr std::uint64_t panel = kByDepth ? 1 : kPanelBytes / 16, lines = 8 * kLineBytes / 16;
    return (shared_address(operand) & 0x3ffff) >> 4 | panel << 16 | lines << 32 |
           std::uint64_t{1} << 62;
  }
};

// Exchanges between kCount lanes that are kApart apart: lane i's item j becomes
// lane j's item i.
template <int kApart, int kCount>
__device__ void transpose(float (&v)[kCount]) {
#pragma unroll
  for (int bit = 1; bit < kCount; bit *= 2) {
    const bool upper = (threadIdx.x & (kApart * bit)) != 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if ((i & bit) != 0) continue;
      const float got = exchange(upper ? v[i] : v[i + bit], kApart * bit);
      v[i] = upper ? got : v[i];
      v[i + bit] = upper ? v[i + bit] : got;
    }
  }
}

// Calls each() with every kBlock sums in turn as the first of d, whose contents
// are lost: registers have no index at run time, and a copy of the epilogue for
// each would be too much code.
template <int kBlock, int kSums, class Each>
__device__ void for_each_block(float (&d)[kSums], const Each& each) {
  const auto halves = [&](auto self, auto size) -> void {
    constexpr int half = decltype(size)::value / 2;
    if constexpr (half < kBlock) {
      each();
    } else {
#pragma unroll 1
      for (int i = 0; i < 2; ++i) {
        self(self, std::integral_constant<int, half>());
#pragma unroll
        for (int j = 0; j < half; ++j) d[j] = d[half + j];
      }
    }
  };
  halves(halves, std::integral_constant<int, kSums>());
}

// The row of a thread's sums in its warpgroup's part of M; others are 8 below.
__device__ inline int own_row() { return threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4; }

// Calls finish(half, n, pack) for eight sums at a time that follow one another
// along N: of own_row(), or in half 1 of the row 8 below.
template <int kSums, class Finish>
__device__ void visit_along_n(float (&d)[kSums], const Finish& finish) {
  int n = threadIdx.x % 4 * 8;
  for_each_block<16>(d, [&] {
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      float even[4], odd[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        even[j] = half == 0 ? d[4 * j] : d[4 * j + 2];
        odd[j] = half == 0 ? d[4 * j + 1] : d[4 * j + 3];
      }
      transpose<1>(even);
      transpose<1>(odd);
      Pack<float, kHopperFinished> pack;
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        pack.item[2 * x] = even[x];
        pack.item[2 * x + 1] = odd[x];
      }
      finish(half, n, pack);
    }
    n += 32;
  });
}

// Calls finish(m, n, pack) for eight sums at a time that follow one another along M.
template <int kSums, class Finish>
__device__ void visit_along_m(float (&d)[kSums], const Finish& finish) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int m = threadIdx.x / 32 % 4 * 16 + g % 2 * 8;
  int n = g / 4 * 8 + 2 * t + g / 2 % 2;
  for_each_block<8>(d, [&] {
    // Lane group g gets what is 8 j + 2 t + e of N and the h-th half of M, with
    // the bits of g being j, e and h.
    float v[8];
#pragma unroll
    for (int x = 0; x < 8; ++x) v[x] = d[x / 4 * 4 + x % 2 * 2 + x / 2 % 2];
    transpose<4>(v);
    Pack<float, kHopperFinished> pack;
#pragma unroll
    for (int x = 0; x < 8; ++x) pack.item[x] = v[x];
    finish(m, n, pack);
    n += 16;
  });
}

}  // namespace shared_dense::cuda
