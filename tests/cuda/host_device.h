// The device on the host that tests/cuda/host_shim.h gives instructions to:
// blocks of threads, barriers, shared memory.
//
// The threads of a block, or of a cluster of blocks, are coroutines of one thread, in an order
// shuffled per launch. It is stricter than a device where that finds mistakes: shared memory starts
// as NaN, an asynchronous copy happens when it is waited for and no earlier, what it writes to is
// NaN from its start, and threads that wait for one another for ever are an error.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "core/types.h"

namespace host_device {

using shared_dense::Index;

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

// What lasts until somebody waits for it, in groups.
template <class Item>
struct Groups {
  std::vector<Item> items, open;  // of groups under way; since the last commit
  std::vector<std::size_t> ends;  // of the groups in `items`

  void commit() {
    items.insert(items.end(), open.begin(), open.end());
    open.clear();
    ends.push_back(items.size());
  }
  // Does all but the last `left` groups.
  template <class Do>
  void wait(std::size_t left, const Do& act) {
    if (ends.size() <= left) return;
    const std::size_t groups = ends.size() - left, done = ends[groups - 1];
    std::for_each(items.begin(), items.begin() + done, act);
    items.erase(items.begin(), items.begin() + done);
    ends.erase(ends.begin(), ends.begin() + groups);
    for (std::size_t& end : ends) end -= done;
  }
  bool empty() const { return items.empty() && open.empty(); }
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
  Groups<Copy> copies;
  std::vector<unsigned char*> unfenced;  // 16 bytes each that wgmma does not see yet
  bool fenced = false;                   // its registers, for wgmma
};

// Counts arrivals and bytes; `act` is all that is to have happened by the end of
// the phase.
struct PhaseBarrier {
  unsigned arrivals = 0, pending = 0, phase = 0;
  Index expected = 0, coming = 0;
  std::vector<std::function<void()>> act;
};

struct Device {
  static constexpr std::size_t kStack = 128 << 10;

  std::vector<Thread> threads;
  std::vector<Meeting> warps, blocks;  // blocks: of one cluster
  Meeting cluster;
  // Shared memory as threads see it, and as wgmma does (the asynchronous proxy):
  // `pitch` bytes of each block.
  std::vector<unsigned char> memory, proxy_memory;
  unsigned char* shared = nullptr;
  unsigned char* proxy = nullptr;
  std::size_t pitch = 0;
  // Of compute capability 9.0:
  int multiprocessors = 0;  // 0: the device is an older one
  std::map<const void*, PhaseBarrier> barriers;
  bool barriers_fenced = false;
  std::vector<Groups<std::function<void()>>> multiplies;  // of each warp

  Coordinate thread, block_index, grid;
  unsigned count = 0;         // threads of a block
  unsigned id = 0, rank = 0;  // of the thread in its cluster, of its block
  unsigned first_block = 0;
  void (*body)(const void*) = nullptr;
  const void* argument = nullptr;
  jmp_buf scheduler;
  std::mt19937 random{1};

  static Device& get() {
    static Device device;
    return device;
  }

  Thread& current() { return threads[id]; }
  unsigned warp() const { return id / 32; }
  unsigned char* own_shared() const { return shared + rank * pitch; }

  // Writes for threads and wgmma, or makes NaN.
  void write(unsigned char* to, const void* from, std::size_t bytes) {
    std::memcpy(to, from, bytes);
    std::memcpy(proxy + (to - shared), from, bytes);
  }
  void poison(unsigned char* to, std::size_t bytes) {
    std::memset(to, 0xFF, bytes);
    std::memset(proxy + (to - shared), 0xFF, bytes);
  }

  [[noreturn]] static void fail(const char* why) {
    std::fprintf(stderr, "host device: %s\n", why);
    std::abort();
  }

  static void entry() {
    Device& device = get();
    device.body(device.argument);
    device.current().ended = true;
    if (!device.current().copies.empty()) fail("a thread ended before its copies");
    if (!device.multiplies[device.warp()].empty()) {
      fail("a thread ended before its multiplies");
    }
    _longjmp(device.scheduler, 1);
  }

  void wait(const unsigned* watched) {
    Thread& self = current();
    self.watched = watched;
    self.seen = *watched;
    if (_setjmp(self.place) == 0) _longjmp(scheduler, 1);
  }

  // Now and then lets others go on, as threads that wait for nobody get apart, too.
  void pause() {
    if (random() % 4 != 0) return;
    if (_setjmp(current().place) == 0) _longjmp(scheduler, 1);
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

  void step(unsigned next_id) {
    id = next_id;
    thread.x = id % count;
    rank = id / count;
    block_index.x = first_block + rank;
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

  void run_cluster(std::size_t shared_bytes, unsigned size) {
    const unsigned all = count * size;
    if (size > 1 && count % 32 != 0) fail("blocks of a cluster end within a warp");
    pitch = (shared_bytes + 127) / 128 * 128;
    memory.assign(pitch * size + 128, 0xFF);
    shared = memory.data() + (128 - reinterpret_cast<std::uintptr_t>(memory.data()) % 128);
    proxy_memory.assign(pitch * size, 0xFF);
    proxy = proxy_memory.data();
    barriers.clear();
    barriers_fenced = false;
    multiplies.assign((all + 31) / 32, {});
    if (threads.size() < all) threads.resize(all);
    for (unsigned i = 0; i < all; ++i) {
      threads[i].started = threads[i].ended = false;
      threads[i].watched = nullptr;
      threads[i].fenced = false;
      threads[i].unfenced.clear();
    }
    warps.assign((all + 31) / 32, {});
    blocks.assign(size, {});
    cluster = {};
    std::vector<unsigned> order(all);
    std::iota(order.begin(), order.end(), 0u);
    std::shuffle(order.begin(), order.end(), random);
    // One block of a cluster runs as far ahead of the others as it can.
    const unsigned ahead = random() % size;
    unsigned left = all;
    const auto round = [&](bool of_ahead) {
      bool moved = false;
      for (const unsigned at : order) {
        Thread& next = threads[at];
        if ((at / count == ahead) != of_ahead || next.ended) continue;
        if (next.watched != nullptr && *next.watched == next.seen) continue;
        next.watched = nullptr;
        step(at);
        moved = true;
        left -= threads[at].ended;
      }
      return moved;
    };
    while (left > 0) {
      if (!round(true) && !round(false)) fail("threads wait for one another for ever");
    }
  }
};

}  // namespace host_device
