// A pool for timing whose threads never sleep, so that no call pays for waking
// one. OpenBLAS's threads, which ours are compared with, spin between products
// as well, and TensorFlow's do for a while.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

#include "core/parallel.h"

namespace shared_dense {

class SpinningThreads : public ThreadPool {
 public:
  explicit SpinningThreads(int threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { run(); });
    spread();
  }

  ~SpinningThreads() override {
    stop_ = true;
    for (std::thread& worker : workers_) worker.join();
  }

  int threads() const override { return static_cast<int>(workers_.size()) + 1; }

  bool awake() const override { return true; }

  void schedule(std::function<void()> task) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    tasks_.push_back(std::move(task));
    ++waiting_;
  }

 private:
  static constexpr std::chrono::milliseconds kMostForSpreading{200};

  void run() {
    for (;;) {
      // Yields, so that with more threads than processors the others get on.
      while (waiting_ == 0) {
        if (stop_) return;
        std::this_thread::yield();
      }
      std::function<void()> task;
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (tasks_.empty()) continue;
        task = std::move(tasks_.front());
        tasks_.pop_front();
        --waiting_;
      }
      task();
    }
  }

  // Waits until every thread, the calling one included, has a processor of its
  // own. New threads may begin on one that is taken, and share it, at half the
  // speed, for a tenth of a second. Gives up where that does not come about.
  void spread() {
#if defined(__linux__)
    struct Places {
      explicit Places(int threads) : cpu(threads) {
        for (std::atomic<int>& place : cpu) place = -1;
      }
      std::vector<std::atomic<int>> cpu;
      std::atomic<bool> found{false};
    };
    const auto places = std::make_shared<Places>(threads());
    for (int t = 1; t < threads(); ++t) {
      schedule([places, t] {
        while (!places->found) places->cpu[t] = sched_getcpu();
      });
    }
    const auto apart = [&places] {
      places->cpu[0] = sched_getcpu();
      const std::set<int> cpus(places->cpu.begin(), places->cpu.end());
      return cpus.count(-1) == 0 && cpus.size() == places->cpu.size();
    };
    const auto end = std::chrono::steady_clock::now() + kMostForSpreading;
    while (!apart() && std::chrono::steady_clock::now() < end) {
    }
    places->found = true;
#endif
  }

  std::mutex mutex_;
  std::deque<std::function<void()>> tasks_;
  std::atomic<int> waiting_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace shared_dense
