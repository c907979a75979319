// Instructions of compute capability 9.0 on the host: csrc/cuda/ptx_sm90.h
// includes it in their place. Stricter than a device, besides what host_device.h
// says: a box is copied when its barrier's phase ends and no earlier; wgmma
// multiplies when it is waited for, warp by warp, and sees of what threads wrote
// only what they fenced, the same when it starts; descriptors are read bit by bit.
#pragma once

#include "host_shim.h"

namespace host_device {

// Where shared memory starts in its window: at no multiple of 1024.
constexpr std::uint32_t kWindow = 1024 + 128;

// The 128-byte swizzle: bits 4 to 6 of an address by bits 7 to 9.
inline std::uint32_t swizzled(std::uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

// An operand of wgmma in shared memory.
class Operand {
 public:
  // across: items that follow one another are of M (or N), and not of the depth.
  Operand(std::uint64_t descriptor, bool across) : across_(across) {
    const auto bits = [&](int first, int count) {
      return static_cast<std::uint32_t>(descriptor >> first & ((1u << count) - 1));
    };
    start_ = bits(0, 14) << 4;
    leading_ = bits(16, 14) << 4;
    stride_ = bits(32, 14) << 4;
    if (bits(14, 2) != 0 || bits(30, 2) != 0 || bits(46, 3) != 0 || bits(52, 10) != 0) {
      Device::fail("a descriptor sets bits that it has not");
    }
    if (bits(49, 3) != 0) Device::fail("a descriptor of a pattern off 1024 bytes");
    if (bits(62, 2) != 1) Device::fail("a descriptor of another layout than the 128-byte swizzle");
  }

  // Rows of M (or N) from `first` on, sixteen of the depth each.
  std::vector<std::uint16_t> read(int first, int rows) const {
    std::vector<std::uint16_t> items;
    for (int i = 0; i < rows * 16; ++i) items.push_back(item(first + i / 16, i % 16));
    return items;
  }

 private:
  // The item at m of M (or N) and k of the depth.
  std::uint16_t item(int m, int k) const {
    const std::uint32_t offset =
        across_ ? m / 64 * leading_ + m % 64 * 2 + k / 8 * stride_ + k % 8 * 128
                : m / 8 * stride_ + m % 8 * 128 + k * 2;
    const std::uint32_t address = swizzled(start_ + offset) - kWindow;
    const Device& device = Device::get();
    if (address + 2 > device.pitch) Device::fail("wgmma reads past shared memory");
    std::uint16_t item;
    std::memcpy(&item, device.proxy + device.rank * device.pitch + address, 2);
    return item;
  }

  std::uint32_t start_, leading_, stride_;
  bool across_;
};

// A sum as wgmma might round it: cut off, and to 21 bits, which is half of what
// the oracle allows for sixteen terms. mma.sync here rounds to nearest, so that a
// product that mixes them shows.
inline float cut(double sum) {
  const float near = static_cast<float>(sum);
  const float toward_zero = std::fabs(near) > std::fabs(sum) ? std::nextafter(near, 0.0f) : near;
  std::uint32_t bits;
  std::memcpy(&bits, &toward_zero, sizeof bits);
  bits &= ~7u;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return std::isnan(near) ? near : result;
}

}  // namespace host_device

namespace shared_dense::cuda {

inline std::uint32_t shared_address(const void* p) {
  const auto& device = host_device::Device::get();
  const auto offset = static_cast<const unsigned char*>(p) - device.own_shared();
  if (offset < 0 || static_cast<std::size_t>(offset) >= device.pitch) {
    host_device::Device::fail("an address of another block, or not of shared memory");
  }
  return static_cast<std::uint32_t>(offset) + host_device::kWindow;
}

// The same place in the shared memory of another block of the cluster.
template <class P>
P* place_in(P* own, unsigned block) {
  const auto& device = host_device::Device::get();
  if (block >= device.blocks.size()) host_device::Device::fail("no such block in the cluster");
  // Its memory goes when its last thread does.
  const auto first = device.threads.begin() + block * device.count;
  if (std::all_of(first, first + device.count, [](const auto& t) { return t.ended; })) {
    host_device::Device::fail("a block reaches into another that has ended");
  }
  const std::ptrdiff_t offset =
      reinterpret_cast<unsigned char*>(own) - device.own_shared() + block * device.pitch;
  return reinterpret_cast<P*>(device.shared + offset);
}

inline host_device::PhaseBarrier& barrier_at(Barrier* barrier) {
  auto& barriers = host_device::Device::get().barriers;
  const auto found = barriers.find(barrier);
  if (found == barriers.end()) host_device::Device::fail("a barrier is not initialised");
  return found->second;
}
inline void init_barrier(Barrier* barrier, int arrivals) {
  check_aligned(barrier, 8);
  auto& at = host_device::Device::get().barriers[barrier];
  at.arrivals = at.pending = arrivals;
}
inline void fence_barriers() { host_device::Device::get().barriers_fenced = true; }
inline void end_phase_if_over(host_device::PhaseBarrier* at) {
  if (at->pending > 0 || at->coming < at->expected) return;
  if (at->coming > at->expected) host_device::Device::fail("more bytes than a barrier expects");
  for (const auto& act : at->act) act();
  at->act.clear();
  at->expected = at->coming = 0;
  at->pending = at->arrivals;
  ++at->phase;
}
inline void arrive(Barrier* barrier) {
  host_device::Device::get().pause();
  auto& at = barrier_at(barrier);
  if (at.pending == 0) host_device::Device::fail("more arrivals than a barrier expects");
  --at.pending;
  end_phase_if_over(&at);
}
inline void arrive_in(Barrier* barrier, unsigned block) { arrive(place_in(barrier, block)); }
inline void arrive_and_expect(Barrier* barrier, int bytes) {
  barrier_at(barrier).expected += bytes;
  arrive(barrier);
}
inline void wait(Barrier* barrier, unsigned parity) {
  auto& at = barrier_at(barrier);
  while (at.phase % 2 == parity) host_device::Device::get().wait(&at.phase);
}

// What a host's TensorMap holds.
struct HostMap {
  const std::uint16_t* items;
  Index inner, outer;
};

// As strict as cuTensorMapEncodeTiled.
inline bool make_tensor_map(TensorMap* map, const void* p, Index inner, Index outer) {
  const Index most = Index{1} << 32;
  if (reinterpret_cast<std::uintptr_t>(p) % 16 != 0 || inner * 2 % 16 != 0 || inner < 1 ||
      outer < 1 || inner > most || outer > most) {
    return false;
  }
  const HostMap host{static_cast<const std::uint16_t*>(p), inner, outer};
  std::memcpy(map->bytes, &host, sizeof host);
  return true;
}

template <int kBlocks>
void copy_box(void* own, const TensorMap& map, int inner, int outer, Barrier* own_barrier) {
  using host_device::Device;
  Device& device = Device::get();
  HostMap host;
  std::memcpy(&host, map.bytes, sizeof host);
  const std::uint32_t address = shared_address(own);
  if (address % 1024 != 0) Device::fail("a box does not start where the swizzle does");
  if (!device.barriers_fenced) Device::fail("the copy engine does not know of the barriers");
  constexpr int bytes = 2 * kLine * kLine;
  for (unsigned block = 0; block < device.blocks.size(); ++block) {
    if (kBlocks == 1 && block != device.rank) continue;
    unsigned char* const to = place_in(static_cast<unsigned char*>(own), block);
    auto& at = barrier_at(place_in(own_barrier, block));
    device.poison(to, bytes);
    at.coming += bytes;
    at.act.push_back([=, &device] {
      for (int i = 0; i < kLine * kLine; ++i) {
        const Index row = outer + i / kLine, column = inner + i % kLine;
        const bool inside = row < host.outer && column < host.inner;
        const std::uint16_t item = inside ? host.items[row * host.inner + column] : 0;
        device.write(to + (host_device::swizzled(address + 2 * i) - address), &item, 2);
      }
    });
    end_phase_if_over(&at);
  }
}

inline void store_shared(void* to, const Pack<std::uint32_t, 4>& v) {
  check_aligned(to);
  auto& device = host_device::Device::get();
  device.poison(static_cast<unsigned char*>(to), 16);
  std::memcpy(to, &v, 16);
  device.current().unfenced.push_back(static_cast<unsigned char*>(to));
}
inline void fence_writes() {
  auto& device = host_device::Device::get();
  device.pause();
  for (unsigned char* const to : device.current().unfenced) device.write(to, to, 16);
  device.current().unfenced.clear();
}

template <int>
void give_registers() {}
template <int>
void take_registers() {}

inline void sync_cluster() {
  auto& device = host_device::Device::get();
  const auto all = static_cast<unsigned>(device.count * device.blocks.size());
  device.meet(&device.cluster, all, [] {});
}
inline void sync_warp() {
  together({}, [](const host_device::Lane*) {});
}
inline float exchange(float v, int mask) {
  together({nullptr, {}, &v, nullptr, nullptr}, [&](const host_device::Lane* lanes) {
    float of[32];
    for (int lane = 0; lane < 32; ++lane) of[lane] = *lanes[lane].d;
    for (int lane = 0; lane < 32; ++lane) *lanes[lane].d = of[lane ^ mask];
  });
  return v;
}
inline unsigned grid_size() { return host_device::Device::get().grid.x; }
inline int sm90_multiprocessors() { return host_device::Device::get().multiprocessors; }

inline void fence_multiplies() { host_device::Device::get().current().fenced = true; }
inline void commit_multiplies() {
  together({}, [](const host_device::Lane*) {
    auto& device = host_device::Device::get();
    device.multiplies[device.warp()].commit();
  });
}
template <int kLeft>
void wait_multiplies() {
  together({}, [](const host_device::Lane*) {
    auto& device = host_device::Device::get();
    device.multiplies[device.warp()].wait(kLeft, [](const auto& act) { act(); });
  });
  if (kLeft == 0) host_device::Device::get().current().fenced = false;
}
template <int kCount>
void settle(float (&)[kCount]) {}

template <bool kAcrossM, bool kAcrossN, int kCount, class S>
void multiply_async(float (&d)[kCount], std::uint64_t a, std::uint64_t b, S) {
  auto& device = host_device::Device::get();
  if (!device.current().fenced) host_device::Device::fail("wgmma without a fence before");
  together({nullptr, {}, d, nullptr, nullptr}, [&](const host_device::Lane* lanes) {
    std::array<float*, 32> sums;
    for (int lane = 0; lane < 32; ++lane) sums[lane] = lanes[lane].d;
    const unsigned warp = device.warp();
    constexpr int columns = 2 * kCount;
    const auto operands = [=] {
      const host_device::Operand left(a, kAcrossM), right(b, kAcrossN);
      return std::array{left.read(static_cast<int>(warp % 4) * 16, 16), right.read(0, columns)};
    };
    device.multiplies[warp].open.push_back([=, before = operands()] {
      const auto [left, right] = operands();
      if (before[0] != left || before[1] != right) {
        host_device::Device::fail("an operand of wgmma changes while it multiplies");
      }
      static float rows[16][16], across[columns][16];
      for (int i = 0; i < 16 * 16; ++i) rows[i / 16][i % 16] = widen(S{left[i]});
      for (int i = 0; i < columns * 16; ++i) across[i / 16][i % 16] = widen(S{right[i]});
      for (int lane = 0; lane < 32; ++lane) {
        for (int i = 0; i < kCount; ++i) {
          const float* const m = rows[lane / 4 + i / 2 % 2 * 8];
          const float* const n = across[i / 4 * 8 + lane % 4 * 2 + i % 2];
          double sum = sums[lane][i];
          for (int k = 0; k < 16; ++k) sum += static_cast<double>(m[k]) * n[k];
          sums[lane][i] = host_device::cut(sum);
        }
      }
    });
  });
}

}  // namespace shared_dense::cuda
