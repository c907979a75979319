#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

namespace shared_dense {
namespace {

// How the processor rounds, and whether it takes subnormal numbers for 0: of a
// thread, and nobody else's.
class FloatMode {
 public:
#if defined(__x86_64__)
  using Word = std::uint32_t;
  static Word get() { return __builtin_ia32_stmxcsr() & ~kFlags; }
  static void set(Word mode) { __builtin_ia32_ldmxcsr(mode | (__builtin_ia32_stmxcsr() & kFlags)); }

 private:
  static constexpr Word kFlags = 0x3f;  // what has happened since they were cleared
#elif defined(__aarch64__)
  using Word = std::uint64_t;
  static Word get() {
    Word mode;
    asm volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
  }
  static void set(Word mode) { asm volatile("msr fpcr, %0" : : "r"(mode)); }
#else
  using Word = int;
  static Word get() { return 0; }
  static void set(Word) {}
#endif
};

// What the caller and its helpers share. It outlives the call: a helper may
// start after the caller has left, and then touches nothing but the counters.
class Stages {
 public:
  Stages(const std::vector<Index>& items, int workers,
         const std::function<void(int, Index, int)>* body)
      : count_(static_cast<int>(items.size())),
        workers_(workers),
        body_(body),
        mode_(FloatMode::get()),
        stages_(new Stage[items.size()]),
        shares_(new Share[items.size() * workers]) {
    for (int s = 0; s < count_; ++s) {
      stages_[s].items = items[s];
      for (int w = 0; w < workers; ++w) {
        Share& share = shares_[s * workers + w];
        share.next.store(items[s] * w / workers, std::memory_order_relaxed);
        share.end = items[s] * (w + 1) / workers;
      }
    }
  }

  // Every worker calls this once, the caller as worker 0.
  void work(int worker) {
    for (int s = 0; s < count_; ++s) {
      Index finished = 0, item;
      for (int i = 0; i < workers_; ++i) {
        Share& share = shares_[s * workers_ + (worker + i) % workers_];
        while (share.take(&item)) {
          (*body_)(s, item, worker);
          ++finished;
        }
      }
      finish(stages_[s], finished);
      wait(stages_[s]);
    }
  }

  // In the caller's mode, so that it does not show who did what.
  void help() {
    const FloatMode::Word own = FloatMode::get();
    if (own != mode_) FloatMode::set(mode_);
    work(helpers_.fetch_add(1, std::memory_order_relaxed));
    if (own != mode_) FloatMode::set(own);
  }

 private:
  struct Stage {
    Index items = 0;
    std::atomic<Index> done{0};
  };

  // What is left of a worker's own items, on a cache line of its own.
  struct alignas(64) Share {
    std::atomic<Index> next{0};
    Index end = 0;

    bool take(Index* item) {
      if (next.load(std::memory_order_relaxed) >= end) return false;
      *item = next.fetch_add(1, std::memory_order_relaxed);
      return *item < end;
    }
  };

  void finish(Stage& stage, Index finished) {
    if (finished == 0) return;
    if (stage.done.fetch_add(finished, std::memory_order_acq_rel) + finished == stage.items) {
      const std::lock_guard<std::mutex> lock(mutex_);
      stage_done_.notify_all();
    }
  }

  // The others are in their last item: spin for about as long as a small item
  // takes before paying for a sleep.
  void wait(Stage& stage) {
    const auto done = [&stage] {
      return stage.done.load(std::memory_order_acquire) == stage.items;
    };
    for (int spin = 0; spin < 2000; ++spin) {
      if (done()) return;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    std::unique_lock<std::mutex> lock(mutex_);
    stage_done_.wait(lock, done);
  }

  const int count_, workers_;
  const std::function<void(int, Index, int)>* const body_;
  const FloatMode::Word mode_;
  const std::unique_ptr<Stage[]> stages_;
  const std::unique_ptr<Share[]> shares_;  // [stage][worker]
  std::atomic<int> helpers_{1};
  std::mutex mutex_;
  std::condition_variable stage_done_;
};

}  // namespace

int worker_count(const ThreadPool* pool, Index items) {
  if (pool == nullptr) return 1;
  return static_cast<int>(std::max<Index>(1, std::min<Index>(pool->threads(), items)));
}

void parallel_stages(ThreadPool* pool, const std::vector<Index>& items,
                     const std::function<void(int, Index, int)>& body) {
  Index most = 0;
  for (const Index n : items) most = std::max(most, n);
  const int workers = worker_count(pool, most);
  if (workers == 1) {
    for (std::size_t stage = 0; stage < items.size(); ++stage) {
      for (Index item = 0; item < items[stage]; ++item) body(static_cast<int>(stage), item, 0);
    }
    return;
  }
  auto stages = std::make_shared<Stages>(items, workers, &body);
  for (int helper = 1; helper < workers; ++helper) {
    pool->schedule([stages] { stages->help(); });
  }
  stages->work(0);
}

void parallel_for(ThreadPool* pool, Index items, const std::function<void(Index, int)>& body) {
  parallel_stages(pool, {items}, [&body](int, Index item, int worker) { body(item, worker); });
}

}  // namespace shared_dense
