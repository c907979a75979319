// A plain thread pool for callers that have none to lend: NumPy has no threads
// of its own, TensorFlow does.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "core/parallel.h"

namespace shared_dense {

class StdThreads : public ThreadPool {
 public:
  explicit StdThreads(int threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { run(); });
  }

  ~StdThreads() override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  int threads() const override { return static_cast<int>(workers_.size()) + 1; }

  bool awake() const override { return spinning_.load(std::memory_order_relaxed) > 0; }

  void schedule(std::function<void()> task) override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      tasks_.push_back(std::move(task));
      pending_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_one();
  }

 private:
  // A worker that has just finished is likely to be wanted again soon.
  void spin() {
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + std::chrono::microseconds(100);
    spinning_.fetch_add(1, std::memory_order_relaxed);
    while (pending_.load(std::memory_order_acquire) == 0 && Clock::now() < end) {
    }
    spinning_.fetch_sub(1, std::memory_order_relaxed);
  }

  void run() {
    for (;;) {
      std::function<void()> task;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [this] { return stop_ || !tasks_.empty(); });
        if (tasks_.empty()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
        pending_.fetch_sub(1, std::memory_order_relaxed);
      }
      task();
      spin();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  bool stop_ = false;
  std::atomic<int> pending_{0}, spinning_{0};
  std::vector<std::thread> workers_;
};

}  // namespace shared_dense
