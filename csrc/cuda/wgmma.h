// wgmma: a warpgroup multiplies asynchronously from shared memory (sm_90a).
// Included by ptx_sm90.h.
#pragma once

#include "cuda/ptx.h"

namespace shared_dense::cuda {

// Registers change between here and the next multiply_async().
__device__ inline void fence_multiplies() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void commit_multiplies() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most `kLeft` groups are under way.
template <int kLeft>
__device__ inline void wait_multiplies() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
}

// Behind wait_multiplies<0>(): keeps the compiler from reading sums before it.
template <int kCount>
__device__ inline void settle(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

#define SHARED_DENSE_SUMS_8(i)                                                                \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define SHARED_DENSE_SUMS_32(i)                                                    \
  SHARED_DENSE_SUMS_8(i), SHARED_DENSE_SUMS_8(i + 8), SHARED_DENSE_SUMS_8(i + 16), \
      SHARED_DENSE_SUMS_8(i + 24)
#define SHARED_DENSE_SUMS_64(i) SHARED_DENSE_SUMS_32(i), SHARED_DENSE_SUMS_32(i + 32)
#define SHARED_DENSE_SUMS_128(i) SHARED_DENSE_SUMS_64(i), SHARED_DENSE_SUMS_64(i + 64)

// Names of operands: ten from 10 t on, and all of a result.
#define SHARED_DENSE_TEN(t)                                                                        \
  "%" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t "8, %" #t \
  "9, "
#define SHARED_DENSE_NAMES_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define SHARED_DENSE_NAMES_30 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, " SHARED_DENSE_TEN(1) SHARED_DENSE_TEN(2)
#define SHARED_DENSE_NAMES_32 SHARED_DENSE_NAMES_30 "%30, %31"
#define SHARED_DENSE_NAMES_60 \
  SHARED_DENSE_NAMES_30 SHARED_DENSE_TEN(3) SHARED_DENSE_TEN(4) SHARED_DENSE_TEN(5)
#define SHARED_DENSE_NAMES_64 SHARED_DENSE_NAMES_60 "%60, %61, %62, %63"
#define SHARED_DENSE_NAMES_128                                                      \
  SHARED_DENSE_NAMES_60 SHARED_DENSE_TEN(6) SHARED_DENSE_TEN(7) SHARED_DENSE_TEN(8) \
      SHARED_DENSE_TEN(9) SHARED_DENSE_TEN(10)                                      \
          SHARED_DENSE_TEN(11) "%120, %121, %122, %123, %124, %125, %126, %127"

// d += a . b with a [64, 16] and b [16, 2 * kCount] of shared memory, by one
// warpgroup; descriptors say where they lie, the flags that they lie along M
// and along N and not along the depth. Of lane 4 g + t of warp w: d[4 j + 2 h + e]
// is row 16 w + g + 8 h, column 8 j + 2 t + e.
#define SHARED_DENSE_MULTIPLY_ASYNC(Item, type, columns, count, first, second, third, fourth) \
  template <bool kAcrossM, bool kAcrossN>                                                     \
  __device__ inline void multiply_async(float (&d)[count], std::uint64_t a, std::uint64_t b,  \
                                        Item) {                                               \
    asm volatile(                                                                             \
        "{\n.reg .pred adds;\nsetp.eq.u32 adds, 0, 0;\n"                                      \
        "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type                 \
        " {" SHARED_DENSE_NAMES_##count "}, %" #first ", %" #second ", adds, 1, 1, %" #third  \
                                        ", %" #fourth ";\n}"                                  \
        : SHARED_DENSE_SUMS_##count(0)                                                        \
        : "l"(a), "l"(b), "n"(kAcrossM ? 1 : 0), "n"(kAcrossN ? 1 : 0));                      \
  }
#define SHARED_DENSE_MULTIPLIES_ASYNC(Item, type)                  \
  SHARED_DENSE_MULTIPLY_ASYNC(Item, type, 16, 8, 8, 9, 10, 11)     \
  SHARED_DENSE_MULTIPLY_ASYNC(Item, type, 64, 32, 32, 33, 34, 35)  \
  SHARED_DENSE_MULTIPLY_ASYNC(Item, type, 128, 64, 64, 65, 66, 67) \
  SHARED_DENSE_MULTIPLY_ASYNC(Item, type, 256, 128, 128, 129, 130, 131)
SHARED_DENSE_MULTIPLIES_ASYNC(BFloat16, "bf16")
SHARED_DENSE_MULTIPLIES_ASYNC(Half, "f16")

#undef SHARED_DENSE_MULTIPLIES_ASYNC
#undef SHARED_DENSE_MULTIPLY_ASYNC
#undef SHARED_DENSE_NAMES_8
#undef SHARED_DENSE_NAMES_30
#undef SHARED_DENSE_NAMES_32
#undef SHARED_DENSE_NAMES_60
#undef SHARED_DENSE_NAMES_64
#undef SHARED_DENSE_NAMES_128
#undef SHARED_DENSE_TEN
#undef SHARED_DENSE_SUMS_8
#undef SHARED_DENSE_SUMS_32
#undef SHARED_DENSE_SUMS_64
#undef SHARED_DENSE_SUMS_128

}  // namespace shared_dense::cuda
