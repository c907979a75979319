#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>

namespace shared_dense {
namespace {

// What the caller and its helpers share. It outlives the call: a helper may
// start after the caller has left, and then touches nothing but `next`.
struct Loop {
  explicit Loop(Index n, const std::function<void(Index, int)>* f) : items(n), body(f) {}

  void work() {
    Index item = next.fetch_add(1, std::memory_order_relaxed);
    if (item >= items) return;
    // Only a thread that holds an item gets a number, so numbers stay below
    // the number of threads that ever work at once.
    const int worker = workers.fetch_add(1, std::memory_order_relaxed);
    Index finished = 0;
    for (; item < items; item = next.fetch_add(1, std::memory_order_relaxed)) {
      (*body)(item, worker);
      ++finished;
    }
    if (done.fetch_add(finished, std::memory_order_acq_rel) + finished == items) {
      const std::lock_guard<std::mutex> lock(mutex);
      all_done.notify_all();
    }
  }

  void wait() {
    // The others are in their last item: spin for about as long as a small
    // item takes before paying for a sleep.
    for (int spin = 0; spin < 2000; ++spin) {
      if (done.load(std::memory_order_acquire) == items) return;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    std::unique_lock<std::mutex> lock(mutex);
    all_done.wait(lock, [this] { return done.load(std::memory_order_acquire) == items; });
  }

  const Index items;
  const std::function<void(Index, int)>* const body;
  std::atomic<Index> next{0};
  std::atomic<Index> done{0};
  std::atomic<int> workers{0};
  std::mutex mutex;
  std::condition_variable all_done;
};

}  // namespace

int worker_count(const ThreadPool* pool, Index items) {
  if (pool == nullptr) return 1;
  return static_cast<int>(std::max<Index>(1, std::min<Index>(pool->threads(), items)));
}

void parallel_for(ThreadPool* pool, Index items, const std::function<void(Index, int)>& body) {
  const int workers = worker_count(pool, items);
  if (workers == 1) {
    for (Index item = 0; item < items; ++item) body(item, 0);
    return;
  }
  auto loop = std::make_shared<Loop>(items, &body);
  for (int helper = 1; helper < workers; ++helper) {
    pool->schedule([loop] { loop->work(); });
  }
  loop->work();
  loop->wait();
}

}  // namespace shared_dense
