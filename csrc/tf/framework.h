// TensorFlow's threads and allocator, as the core asks for them.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <utility>

#include "core/shared_matmul.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/lib/core/threadpool.h"

namespace shared_dense {

class Framework : public ThreadPool, public Scratch {
 public:
  explicit Framework(tensorflow::OpKernelContext* ctx)
      : ctx_(ctx), workers_(ctx->device()->tensorflow_cpu_worker_threads()) {}

  ~Framework() override { last_used() = now(); }

  Context context() { return {this, this, active_isa()}; }

  // The thread that runs the op is not one of the intra-op threads; it takes
  // the place of one, so that a call uses as many cores as TensorFlow was told.
  int threads() const override { return workers_->num_threads; }

  // TensorFlow's threads spin for a while after their last task, so they are
  // awake if we gave them one in this call, or if the call before has just
  // ended. A call on one thread counts too, though it keeps none awake: else a
  // run of small calls would never begin to use the others. The first of them
  // that asks for help pays for waking it, once.
  bool awake() const override { return scheduled_ || now() - last_used() < kSpin; }

  void schedule(std::function<void()> task) override {
    scheduled_ = true;
    workers_->workers->Schedule(std::move(task));
  }

  void* allocate(std::size_t bytes) override {
    tensorflow::Tensor& memory = memory_.emplace_back();
    const tensorflow::TensorShape shape({static_cast<std::int64_t>(bytes > 0 ? bytes : 1)});
    if (!ctx_->allocate_temp(tensorflow::DT_UINT8, shape, &memory).ok()) return nullptr;
    return memory.data();
  }

 private:
  // Less than TensorFlow's threads spin: still awake after 10 us, asleep after
  // 40 (measured, 2 threads).
  static constexpr std::int64_t kSpin = 20'000;  // ns

  static std::int64_t now() {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  }
  static std::atomic<std::int64_t>& last_used() {
    static std::atomic<std::int64_t> time{0};
    return time;
  }

  tensorflow::OpKernelContext* const ctx_;
  const tensorflow::DeviceBase::CpuWorkerThreads* const workers_;
  std::deque<tensorflow::Tensor> memory_;
  bool scheduled_ = false;
};

}  // namespace shared_dense
