// How the core runs loops on somebody else's threads.
#pragma once

#include <functional>
#include <vector>

#include "core/types.h"

namespace shared_dense {

// A pool that the caller lends: TensorFlow's intra-op threads, or StdThreads.
class ThreadPool {
 public:
  virtual ~ThreadPool() = default;
  // Threads that may work at once, the calling one included.
  virtual int threads() const = 0;
  // Whether its threads are likely to answer at once, not to be woken first.
  virtual bool awake() const = 0;
  // Runs `task` some time later, on some thread. Must not block.
  virtual void schedule(std::function<void()> task) = 0;
};

// Calls body(stage, item, worker) for every item in [0, items[stage]), each
// once, stage after stage: all items of one are done before the next begins.
// Within a stage every worker has a run of items of its own, the same in every
// call of the same shape, so that what they read and write stays in its cache;
// it takes them from an atomic counter, in ascending order, and then whatever
// the others have left. `worker` is below worker_count(pool, most items of a
// stage), the caller's is 0, and no two calls running at once share it: an index
// for per-thread scratch.
//
// Helpers compute in the caller's mode: they round and flush subnormal numbers as
// it does. `body` must not throw. Helpers are scheduled once for all stages. The caller works too
// and never waits for a helper that has not started: one that starts late joins the stage it finds,
// or finds nothing to do. (A sleeping pool takes ~100 us to answer; a fixed split would wait for
// it.)
SHARED_DENSE_API void parallel_stages(ThreadPool* pool, const std::vector<Index>& items,
                                      const std::function<void(int, Index, int)>& body);

// One stage.
void parallel_for(ThreadPool* pool, Index items, const std::function<void(Index, int)>& body);

int worker_count(const ThreadPool* pool, Index items);

}  // namespace shared_dense
