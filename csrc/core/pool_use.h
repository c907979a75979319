// Whether threads that spin before they sleep are likely to answer at once.
// TensorFlow's intra-op threads are such; the op borrows them, and XLA's code does.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "core/api.h"

namespace shared_dense {

// One call's use of the threads.
//
// Threads spin for a while after their last task, so they are awake if we gave
// them one in this call, or if the call before has just ended. A call on one
// thread counts too, though it keeps none awake: else a run of small calls
// would never begin to use the others. The first of them that asks for help
// pays for waking it, once.
class PoolUse {
 public:
  ~PoolUse() { last() = now(); }

  bool awake() const { return scheduled_ || now() - last() < kSpin; }
  void scheduled() { scheduled_ = true; }

 private:
  // Less than TensorFlow's threads spin: still awake after 10 us, asleep after
  // 40 (measured, 2 threads).
  static constexpr std::int64_t kSpin = 20'000;  // ns

  static std::int64_t now() {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  }
  // When the latest call of the process ended, whoever made it.
  static SHARED_DENSE_API std::atomic<std::int64_t>& last();

  bool scheduled_ = false;
};

}  // namespace shared_dense
