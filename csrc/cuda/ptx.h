// All that the kernels ask of the machine: on a device instructions, in a host
// compiler tests/cuda/host_shim.h, which does the same with the same layouts.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/types.h"

struct CUstream_st;

#if defined(__CUDACC__)

#include <cuda_runtime.h>

namespace shared_dense::cuda {

__device__ inline unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char memory[];
  return memory;
}

__device__ inline std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

// Sixteen bytes from global to shared memory, both aligned, past the registers.
__device__ inline void copy_async(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from)
               : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `kLeft` of the groups this thread committed are under way.
template <int kLeft>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

// Four 8 x 8 matrices of 16-bit items. Lane i names a row of matrix i / 8; it
// gets items 2 (i % 4) and the next of row i / 4 of each, or of the transposed.
__device__ inline void load_matrices(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ inline void load_matrices_transposed(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// d += a . b with a [16, 16], b [16, 8], by one warp. Of lane 4 g + t: a[0] is
// row g, columns 2 t and 2 t + 1, a[1] row g + 8, a[2] and a[3] the same eight
// columns on; b[0] rows 2 t and 2 t + 1 of column g, b[1] eight rows on; d[0]
// and d[1] row g, columns 2 t and 2 t + 1, d[2] and d[3] row g + 8.
__device__ inline void multiply_add(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1, BFloat16) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ inline void multiply_add(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1, Half) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// To TensorFloat-32: ten bits of fraction, a tie away from zero. The argument
// is a float, or the bits of one.
__device__ inline std::uint32_t round_to_tf32(float v) {
  std::uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(v));
  return rounded;
}
__device__ inline std::uint32_t round_to_tf32(std::uint32_t bits) {
  return round_to_tf32(__uint_as_float(bits));
}

// d += a . b with a [16, 8], b [8, 8] in TensorFloat-32, by one warp. Of lane
// 4 g + t: a[0] is row g, column t, a[1] row g + 8, a[2] and a[3] the same four
// columns on; b[0] row t of column g, b[1] four rows on; d as in multiply_add.
__device__ inline void multiply_add_tf32(float (&d)[4], const std::uint32_t (&a)[4],
                                         std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline float widen(BFloat16 v) {
  return __uint_as_float(static_cast<std::uint32_t>(v.bits) << 16);
}
__device__ inline float widen(Half v) {
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(v.bits));
  return wide;
}
// To nearest, a tie to even.
__device__ inline void narrow(float v, BFloat16* to) {
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to->bits) : "f"(v));
}
__device__ inline void narrow(float v, Half* to) {
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to->bits) : "f"(v));
}

// A structure in vectors to global memory. Assigned, it would move item by item
// where a branch beside this one stores single items.
template <class P>
__device__ inline void store_whole(void* to, const P& pack) {
  std::uint32_t word[sizeof pack / 4];
  memcpy(word, &pack, sizeof pack);
  auto* const words = static_cast<std::uint32_t*>(to);
  if constexpr (sizeof pack == 8) {
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(words), "r"(word[0]), "r"(word[1])
                 : "memory");
  } else {
#pragma unroll
    for (std::size_t i = 0; i < sizeof pack / 4; i += 4) {
      asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(words + i), "r"(word[i]),
                   "r"(word[i + 1]), "r"(word[i + 2]), "r"(word[i + 3])
                   : "memory");
    }
  }
}

// Starts kernel(argument) on `blocks` blocks, in clusters of `cluster`; nullptr,
// or what went wrong.
template <class Argument>
const char* launch(void (*kernel)(Argument), Index blocks, int threads, std::size_t shared_bytes,
                   CUstream_st* stream, const Argument& argument, int cluster = 1) {
  constexpr std::size_t kAlwaysAllowed = 48 << 10;
  if (shared_bytes > kAlwaysAllowed) {
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
    if (error != cudaSuccess) return cudaGetErrorString(error);
  }
  cudaLaunchAttribute clusters;
  clusters.id = cudaLaunchAttributeClusterDimension;
  clusters.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  cudaLaunchConfig_t how = {};
  how.gridDim = static_cast<unsigned>(blocks);
  how.blockDim = threads;
  how.dynamicSmemBytes = shared_bytes;
  how.stream = stream;
  how.attrs = &clusters;
  how.numAttrs = cluster > 1 ? 1 : 0;
  const cudaError_t error = cudaLaunchKernelEx(&how, kernel, argument);
  if (error == cudaSuccess) return nullptr;
  cudaGetLastError();  // said here, and nobody else's
  return cudaGetErrorString(error);
}

inline const char* clear(void* p, std::size_t bytes, CUstream_st* stream) {
  const cudaError_t error = cudaMemsetAsync(p, 0, bytes, stream);
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace shared_dense::cuda

#else
#include "host_shim.h"
#endif

namespace shared_dense::cuda {

__device__ inline float widen(float v) { return v; }
__device__ inline double widen(double v) { return v; }
__device__ inline void narrow(float v, float* to) { *to = v; }
__device__ inline void narrow(double v, double* to) { *to = v; }

// Some items moved at once.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount < 16 ? sizeof(T) * kCount : 16) Pack {
  T item[kCount];
};

}  // namespace shared_dense::cuda
