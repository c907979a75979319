// How the core runs loops on somebody else's threads.
#pragma once

#include <functional>

#include "core/types.h"

namespace shared_dense {

// A pool that the caller lends: TensorFlow's intra-op threads, or StdThreads.
class ThreadPool {
 public:
  virtual ~ThreadPool() = default;
  // Threads that may work at once, the calling one included.
  virtual int threads() const = 0;
  // Runs `task` some time later, on some thread. Must not block.
  virtual void schedule(std::function<void()> task) = 0;
};

// Calls body(item, worker) for every item in [0, items), each once, and
// returns when all are done. Items are taken from an atomic counter in
// ascending order. `worker` is below worker_count(pool, items) and no two
// calls running at once share it: an index for per-thread scratch.
//
// The caller works too and never waits for a helper that has not started: one
// that starts after the last item was taken finds nothing to do. (A sleeping
// pool takes ~100 us to answer; a fixed split would wait for it.)
void parallel_for(ThreadPool* pool, Index items, const std::function<void(Index, int)>& body);

int worker_count(const ThreadPool* pool, Index items);

}  // namespace shared_dense
