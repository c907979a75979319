// TensorFlow's threads and allocator, as the core asks for them.
#pragma once

#include <deque>
#include <functional>
#include <utility>

#include "core/pool_use.h"
#include "core/shared_matmul.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/lib/core/threadpool.h"

namespace shared_dense {

class Framework : public ThreadPool, public Scratch {
 public:
  explicit Framework(tensorflow::OpKernelContext* ctx)
      : ctx_(ctx), workers_(ctx->device()->tensorflow_cpu_worker_threads()) {}

  Context context() { return {this, this, active_isa()}; }

  // The thread that runs the op is not one of the intra-op threads; it takes
  // the place of one, so that a call uses as many cores as TensorFlow was told.
  int threads() const override { return workers_->num_threads; }

  bool awake() const override { return use_.awake(); }

  void schedule(std::function<void()> task) override {
    use_.scheduled();
    workers_->workers->Schedule(std::move(task));
  }

  void* allocate(std::size_t bytes) override {
    tensorflow::Tensor& memory = memory_.emplace_back();
    const tensorflow::TensorShape shape({static_cast<std::int64_t>(bytes > 0 ? bytes : 1)});
    if (!ctx_->allocate_temp(tensorflow::DT_UINT8, shape, &memory).ok()) return nullptr;
    return memory.data();
  }

 private:
  tensorflow::OpKernelContext* const ctx_;
  const tensorflow::DeviceBase::CpuWorkerThreads* const workers_;
  std::deque<tensorflow::Tensor> memory_;
  PoolUse use_;
};

}  // namespace shared_dense
