// A device on the host: csrc/cuda compiled by a host compiler runs on it, so
// that its results can be checked where there is no GPU. csrc/cuda/ptx.h
// includes it in place of the instructions; layouts are those of the PTX ISA.
//
// The threads of a block are coroutines of one thread, in an order shuffled
// per launch. It is stricter than a device where that finds mistakes: shared
// memory starts as NaN, an asynchronous copy happens when it is waited for and
// no earlier, and threads that wait for one another for ever are an error.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "core/types.h"
#include "numbers.h"

#define __device__
#define __global__
#define __grid_constant__
#define __launch_bounds__(...)

namespace host_device {

struct Coordinate {
  unsigned x;
};

// What the lanes of a warp bring to an instruction that they execute together.
struct Lane {
  const std::uint32_t* a;
  std::uint32_t b[2];
  float* d;
  const void* row;
  std::uint32_t* r;
};

struct Meeting {
  unsigned arrived = 0, generation = 0;
  Lane lane[32];
};

struct Copy {
  void* to;
  const void* from;
};

struct Thread {
  std::unique_ptr<char[]> stack;
  jmp_buf place;
  bool started = false, ended = false;
  // Waits while *watched == seen.
  const unsigned* watched = nullptr;
  unsigned seen = 0;
  std::vector<Copy> pending;      // since the last commit
  std::vector<std::size_t> ends;  // of the groups under way, in `groups`
  std::vector<Copy> groups;
};

struct Device {
  static constexpr std::size_t kStack = 128 << 10;

  std::vector<Thread> threads;
  std::vector<Meeting> warps;
  Meeting block;
  std::vector<unsigned char> memory;
  unsigned char* shared = nullptr;
  Coordinate thread, block_index;
  unsigned count = 0;
  void (*body)(const void*) = nullptr;
  const void* argument = nullptr;
  jmp_buf scheduler;
  std::mt19937 random{1};

  static Device& get() {
    static Device device;
    return device;
  }

  Thread& current() { return threads[thread.x]; }

  [[noreturn]] static void fail(const char* why) {
    std::fprintf(stderr, "host device: %s\n", why);
    std::abort();
  }

  static void entry() {
    Device& device = get();
    device.body(device.argument);
    device.current().ended = true;
    if (!device.current().pending.empty() || !device.current().groups.empty()) {
      fail("a thread ended before its copies");
    }
    _longjmp(device.scheduler, 1);
  }

  void wait(const unsigned* watched) {
    Thread& self = current();
    self.watched = watched;
    self.seen = *watched;
    if (_setjmp(self.place) == 0) _longjmp(scheduler, 1);
  }

  // The last of `of` threads to arrive does `act` for all.
  template <class Act>
  void meet(Meeting* meeting, unsigned of, const Act& act) {
    if (++meeting->arrived < of) {
      wait(&meeting->generation);
      return;
    }
    act();
    meeting->arrived = 0;
    ++meeting->generation;
  }

  void step(unsigned id) {
    thread.x = id;
    Thread& next = threads[id];
    if (_setjmp(scheduler) != 0) return;
    if (next.started) _longjmp(next.place, 1);
    next.started = true;
    if (!next.stack) next.stack.reset(new char[kStack]);
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = next.stack.get();
    context.uc_stack.ss_size = kStack;
    context.uc_link = nullptr;
    makecontext(&context, &Device::entry, 0);
    setcontext(&context);
  }

  void run_block(std::size_t shared_bytes) {
    memory.assign(shared_bytes + 128, 0xFF);
    shared = memory.data() + (128 - reinterpret_cast<std::uintptr_t>(memory.data()) % 128);
    if (threads.size() < count) threads.resize(count);
    for (unsigned i = 0; i < count; ++i) {
      threads[i].started = threads[i].ended = false;
      threads[i].watched = nullptr;
    }
    warps.assign((count + 31) / 32, {});
    block = {};
    std::vector<unsigned> order(count);
    std::iota(order.begin(), order.end(), 0u);
    std::shuffle(order.begin(), order.end(), random);
    for (unsigned left = count; left > 0;) {
      bool moved = false;
      for (const unsigned id : order) {
        Thread& next = threads[id];
        if (next.ended || (next.watched != nullptr && *next.watched == next.seen)) continue;
        next.watched = nullptr;
        step(id);
        moved = true;
        left -= threads[id].ended;
      }
      if (!moved) fail("threads wait for one another for ever");
    }
  }
};

}  // namespace host_device

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

inline unsigned char* shared_memory() { return host_device::Device::get().shared; }

inline void __syncthreads() {
  auto& device = host_device::Device::get();
  device.meet(&device.block, device.count, [] {});
}

inline void check_aligned(const void* p, std::size_t to = 16) {
  if (reinterpret_cast<std::uintptr_t>(p) % to != 0) {
    host_device::Device::fail("a vector is moved to or from an address that is not its own");
  }
}

inline void copy_async(void* to, const void* from) {
  check_aligned(to);
  check_aligned(from);
  host_device::Device::get().current().pending.push_back({to, from});
}
inline void commit_copies() {
  auto& thread = host_device::Device::get().current();
  thread.groups.insert(thread.groups.end(), thread.pending.begin(), thread.pending.end());
  thread.pending.clear();
  thread.ends.push_back(thread.groups.size());
}
template <int kLeft>
void wait_copies() {
  auto& thread = host_device::Device::get().current();
  if (thread.ends.size() <= kLeft) return;
  const std::size_t groups = thread.ends.size() - kLeft, done = thread.ends[groups - 1];
  for (std::size_t i = 0; i < done; ++i) {
    std::memcpy(thread.groups[i].to, thread.groups[i].from, 16);
  }
  thread.groups.erase(thread.groups.begin(), thread.groups.begin() + done);
  thread.ends.erase(thread.ends.begin(), thread.ends.begin() + groups);
  for (std::size_t& end : thread.ends) end -= done;
}

// Brings one lane to its warp; the last one does `act` on all 32.
template <class Act>
void together(const host_device::Lane& lane, const Act& act) {
  auto& device = host_device::Device::get();
  auto& warp = device.warps[device.thread.x / 32];
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
                   CUstream_st*, const Argument& argument) {
  struct Call {
    void (*kernel)(Argument);
    const Argument* argument;
  } call{kernel, &argument};
  auto& device = host_device::Device::get();
  if (blocks < 1 || blocks > 0x7fffffff || sizeof(Argument) > 4096 || shared_bytes > 99 << 10) {
    return "invalid configuration argument";
  }
  device.count = threads;
  device.argument = &call;
  device.body = [](const void* p) {
    const Call& of = *static_cast<const Call*>(p);
    of.kernel(*of.argument);
  };
  for (Index block = 0; block < blocks; ++block) {
    device.block_index.x = static_cast<unsigned>(block);
    device.run_block(shared_bytes);
  }
  return nullptr;
}

inline const char* clear(void* p, std::size_t bytes, CUstream_st*) {
  std::memset(p, 0, bytes);
  return nullptr;
}

}  // namespace shared_dense::cuda
