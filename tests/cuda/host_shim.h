// Instructions of a device on the host: csrc/cuda compiled by a host compiler
// runs on it, so that its results can be checked where there is no GPU.
// csrc/cuda/ptx.h includes it in place of the instructions; layouts are those of
// the PTX ISA. host_sm90.h has those of compute capability 9.0.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/types.h"
#include "host_device.h"
#include "numbers.h"

#define __device__
#define __global__
#define __grid_constant__
#define __launch_bounds__(...)

namespace shared_dense::cuda {

using std::exp, std::expm1, std::fabs, std::fma, std::tanh;
inline double normcdf(double z) { return 0.5 * std::erfc(z * -0.70710678118654752440); }
inline float normcdf(float z) { return static_cast<float>(normcdf(static_cast<double>(z))); }

inline const host_device::Coordinate& thread_index() { return host_device::Device::get().thread; }
inline const host_device::Coordinate& block_index() {
  return host_device::Device::get().block_index;
}
#define threadIdx (::shared_dense::cuda::thread_index())
#define blockIdx (::shared_dense::cuda::block_index())

inline unsigned char* shared_memory() { return host_device::Device::get().own_shared(); }

inline void __syncthreads() {
  auto& device = host_device::Device::get();
  device.meet(&device.blocks[device.rank], device.count, [] {});
}

inline void check_aligned(const void* p, std::size_t to = 16) {
  if (reinterpret_cast<std::uintptr_t>(p) % to != 0) {
    host_device::Device::fail("a vector is moved to or from an address that is not its own");
  }
}

inline void copy_async(void* to, const void* from) {
  check_aligned(to);
  check_aligned(from);
  auto& device = host_device::Device::get();
  device.poison(static_cast<unsigned char*>(to), 16);
  device.current().copies.open.push_back({to, from});
}
inline void commit_copies() { host_device::Device::get().current().copies.commit(); }
template <int kLeft>
void wait_copies() {
  auto& thread = host_device::Device::get().current();
  thread.copies.wait(kLeft, [&](const host_device::Copy& copy) {
    std::memcpy(copy.to, copy.from, 16);
    thread.unfenced.push_back(static_cast<unsigned char*>(copy.to));
  });
}

// Brings one lane to its warp; the last one does `act` on all 32.
template <class Act>
void together(const host_device::Lane& lane, const Act& act) {
  auto& device = host_device::Device::get();
  auto& warp = device.warps[device.warp()];
  warp.lane[device.thread.x % 32] = lane;
  device.meet(&warp, 32, [&] { act(warp.lane); });
}

template <bool kTransposed>
void load_four(std::uint32_t* r, const void* row) {
  check_aligned(row);
  together({nullptr, {}, nullptr, row, r}, [](const host_device::Lane* lanes) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int matrix = 0; matrix < 4; ++matrix) {
        std::uint16_t item[2];
        for (int e = 0; e < 2; ++e) {
          const int i = lane / 4, j = lane % 4 * 2 + e;
          const auto* from =
              static_cast<const std::uint16_t*>(lanes[matrix * 8 + (kTransposed ? j : i)].row);
          item[e] = from[kTransposed ? i : j];
        }
        lanes[lane].r[matrix] = item[0] | std::uint32_t{item[1]} << 16;
      }
    }
  });
}
inline void load_matrices(std::uint32_t (&r)[4], const void* row) { load_four<false>(r, row); }
inline void load_matrices_transposed(std::uint32_t (&r)[4], const void* row) {
  load_four<true>(r, row);
}

inline float widen(BFloat16 v) { return host_numbers::widen(v); }
inline float widen(Half v) { return host_numbers::widen(v); }
inline void narrow(float v, BFloat16* to) { host_numbers::narrow(v, to); }
inline void narrow(float v, Half* to) { host_numbers::narrow(v, to); }

template <class S>
void multiply_add(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                  S) {
  const auto item = [](std::uint32_t pair, int i) {
    return widen(S{static_cast<std::uint16_t>(pair >> 16 * i)});
  };
  together({a, {b0, b1}, d, nullptr, nullptr}, [&](const host_device::Lane* lanes) {
    float left[16][16], right[16][8];
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, t = lane % 4 * 2;
      for (int r = 0; r < 4; ++r) {
        for (int e = 0; e < 2; ++e) {
          left[g + r % 2 * 8][t + r / 2 * 8 + e] = item(lanes[lane].a[r], e);
          if (r < 2) right[t + r * 8 + e][g] = item(lanes[lane].b[r], e);
        }
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, t = lane % 4 * 2;
      for (int e = 0; e < 4; ++e) {
        double sum = lanes[lane].d[e];
        for (int k = 0; k < 16; ++k) {
          sum += static_cast<double>(left[g + e / 2 * 8][k]) * right[k][t + e % 2];
        }
        lanes[lane].d[e] = static_cast<float>(sum);
      }
    }
  });
}

#include "host_tf32.inc"

template <class P>
void store_whole(void* to, const P& pack) {
  check_aligned(to, std::min<std::size_t>(16, sizeof pack));
  std::memcpy(to, &pack, sizeof pack);
}
template <class Argument>
const char* launch(void (*kernel)(Argument), Index blocks, int threads, std::size_t shared_bytes,
                   CUstream_st*, const Argument& argument, int cluster = 1) {
  struct Call {
    void (*kernel)(Argument);
    const Argument* argument;
  } call{kernel, &argument};
  auto& device = host_device::Device::get();
  const std::size_t most = device.multiprocessors > 0 ? 227 << 10 : 99 << 10;
  if (blocks < 1 || blocks > 0x7fffffff || blocks % cluster != 0 || sizeof(Argument) > 4096 ||
      shared_bytes > most) {
    return "invalid configuration argument";
  }
  device.count = threads;
  device.grid.x = static_cast<unsigned>(blocks);
  device.argument = &call;
  device.body = [](const void* p) {
    const Call& of = *static_cast<const Call*>(p);
    of.kernel(*of.argument);
  };
  for (Index block = 0; block < blocks; block += cluster) {
    device.first_block = static_cast<unsigned>(block);
    device.run_cluster(shared_bytes, cluster);
  }
  return nullptr;
}

inline const char* clear(void* p, std::size_t bytes, CUstream_st*) {
  std::memset(p, 0, bytes);
  return nullptr;
}

}  // namespace shared_dense::cuda
