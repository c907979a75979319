// What the kernels of compute capability 9.0 ask of the machine besides ptx.h:
// on a device instructions of sm_90a, in a host compiler tests/cuda/host_sm90.h.
#pragma once

#include "cuda/ptx.h"

namespace shared_dense::cuda {

// Counts arrivals and bytes that are to come, phase after phase.
using Barrier = std::uint64_t;

// A matrix in global memory as the copy engine sees it: a CUtensorMap.
struct alignas(128) TensorMap {
  unsigned char bytes[128];
};

// Items of a line in shared memory, 128 bytes, and the side of a copied box.
constexpr int kLine = 64;

}  // namespace shared_dense::cuda

#if defined(__CUDACC__)

#include <cuda.h>

#include "cuda/wgmma.h"

namespace shared_dense::cuda {

__device__ inline void init_barrier(Barrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(arrivals)
               : "memory");
}
// Initialised barriers, for the copy engine too.
__device__ inline void fence_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ inline void arrive(Barrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
               : "memory");
}
// At the same barrier of another block of the cluster. Orders no writes: what wgmma
// has read may be overwritten.
__device__ inline void arrive_in(Barrier* barrier, unsigned block) {
  asm volatile(
      "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(shared_address(barrier)),
      "r"(block)
      : "memory");
}
__device__ inline void arrive_and_expect(Barrier* barrier, int bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}
// Until the phase of this parity is over; the one before the first is.
__device__ inline void wait(Barrier* barrier, unsigned parity) {
  asm volatile(
      "{\n.reg .pred over;\nagain:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 over, [%0], %1;\n"
      "@over bra done;\nbra again;\ndone:\n}" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}

// A box of kLine lines of kLine items from (inner, outer) on, zeros outside of
// the matrix, with the chunks of each line exchanged (128-byte swizzle). kBlocks
// above 1: to the same place in so many blocks, all of the cluster; the barrier
// of each learns of the bytes.
template <int kBlocks>
__device__ inline void copy_box(void* to, const TensorMap& map, int inner, int outer,
                                Barrier* barrier) {
  if constexpr (kBlocks == 1) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4}], [%2];" ::"r"(shared_address(to)),
        "l"(&map), "r"(shared_address(barrier)), "r"(inner), "r"(outer)
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".multicast::cluster [%0], [%1, {%4, %5}], [%2], %3;" ::"r"(shared_address(to)),
        "l"(&map), "r"(shared_address(barrier)),
        "h"(static_cast<unsigned short>((1 << kBlocks) - 1)), "r"(inner), "r"(outer)
        : "memory");
  }
}

__device__ inline void store_shared(void* to, const Pack<std::uint32_t, 4>& v) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(to)), "r"(v.item[0]),
               "r"(v.item[1]), "r"(v.item[2]), "r"(v.item[3])
               : "memory");
}
// What this thread wrote to shared memory, for wgmma.
__device__ inline void fence_writes() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

template <int kRegisters>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// All threads of all blocks of the cluster.
__device__ inline void sync_cluster() {
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}
__device__ inline void sync_warp() { __syncwarp(); }
// The value of the lane whose number differs in `mask`.
__device__ inline float exchange(float v, int mask) {
  return __shfl_xor_sync(0xffffffffu, v, mask);
}
__device__ inline unsigned grid_size() { return gridDim.x; }

// Multiprocessors of the current device if sm_90a's code runs on it; else 0.
inline int sm90_multiprocessors() {
  int device = 0, major = 0, minor = 0, count = 0;
  const bool known =
      cudaGetDevice(&device) == cudaSuccess &&
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess &&
      cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) == cudaSuccess;
  if (!known) cudaGetLastError();
  return known && major == 9 && minor == 0 ? count : 0;
}

// `outer` rows of `inner` items of 16 bits; false: the driver refuses.
inline bool make_tensor_map(TensorMap* map, const void* p, Index inner, Index outer) {
  // Asked of the driver that the runtime loaded: libcuda is not linked.
  static const auto encode = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found,
                                                               12000, cudaEnableDefault, &result);
#else
    const cudaError_t error =
        cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &result);
#endif
    if (error != cudaSuccess) cudaGetLastError();
    const bool there = error == cudaSuccess && result == cudaDriverEntryPointSuccess;
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(there ? found : nullptr);
  }();
  static_assert(
      sizeof(TensorMap) == sizeof(CUtensorMap) && alignof(TensorMap) >= alignof(CUtensorMap), "");
  if (encode == nullptr) return false;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(inner), static_cast<cuuint64_t>(outer)};
  const cuuint64_t pitch[] = {static_cast<cuuint64_t>(inner) * 2};
  const cuuint32_t box[] = {kLine, kLine}, steps[] = {1, 1};
  // Items are moved, not computed with: their bits may be called integers.
  return encode(reinterpret_cast<CUtensorMap*>(map), CU_TENSOR_MAP_DATA_TYPE_UINT16, 2,
                const_cast<void*>(p), sizes, pitch, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace shared_dense::cuda

#else
#include "host_sm90.h"
#endif
