// The op kernels for GPUs: work for the stream that TensorFlow gives.
#include <deque>
#include <mutex>
#include <string>
#include <utility>

#include "cuda/shared_matmul.h"
#include "tensorflow/core/platform/tensor_float_32_utils.h"
#include "tf/shared_matmul_op.h"
#include "tf/shared_matmul_output.h"
#include "tf/verbose.h"
#include "xla/stream_executor/stream.h"

namespace shared_dense {
namespace {

// Memory of TensorFlow's allocator. What is given back when a call returns goes
// to work that the stream does later.
class DeviceMemory : public Scratch {
 public:
  explicit DeviceMemory(OpKernelContext* ctx) : ctx_(ctx) {}

  // Float32 is multiplied as TensorFlow's own products are: in TensorFloat-32
  // unless tf.config.experimental.enable_tensor_float_32_execution(False).
  cuda::Context context(std::string* said = nullptr) {
    void* const stream = ctx_->op_device_context()->stream()->platform_specific_handle().stream;
    return {static_cast<CUstream_st*>(stream), this,
            tensorflow::tensor_float_32_execution_enabled(), verbose() ? said : nullptr};
  }

  void* allocate(std::size_t bytes) override {
    Tensor& memory = memory_.emplace_back();
    const TensorShape shape({static_cast<std::int64_t>(bytes > 0 ? bytes : 1)});
    if (!ctx_->allocate_temp(tensorflow::DT_UINT8, shape, &memory).ok()) return nullptr;
    return memory.data();
  }

 private:
  OpKernelContext* const ctx_;
  std::deque<Tensor> memory_;
};

absl::Status status(const char* op, const char* error) {
  if (error == nullptr) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(op, " on a CUDA device: ", error));
}

// Why nobody gets results of these kernels; "" where they do.
struct Refusal {
  std::mutex mutex;
  std::string why;
};
Refusal& refusal() {
  static Refusal* const one = new Refusal;  // outlives all threads
  return *one;
}

struct Gpu {
  static absl::Status ready() {
    Refusal& refused = refusal();
    const std::lock_guard<std::mutex> lock(refused.mutex);
    if (refused.why.empty()) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("the GPU kernels of shared_dense are refused: ", refused.why,
                     ". Run this graph under tf.device('CPU'), or one without the op"));
  }

  static absl::Status zero(OpKernelContext* ctx, Tensor* tensor) {
    DeviceMemory memory(ctx);
    return status("SharedMatMulGrad",
                  cuda::zero(memory.context(), tensor->data(), tensor->TotalBytes()));
  }

  template <class T>
  static absl::Status forward(OpKernelContext* ctx, const Operands<T>& operands,
                              const std::vector<ForwardSegment<Storage<T>>>& segments) {
    DeviceMemory memory(ctx);
    std::string said;
    const char* const error = cuda::forward(memory.context(&said), operands.kernel, segments);
    if (verbose()) say_once(operands.title("SharedMatMul") + ", on a GPU", [&] { return said; });
    return status("SharedMatMul", error);
  }

  template <class T>
  static absl::Status backward(OpKernelContext* ctx, const Operands<T>& operands, const Attributes&,
                               const Wanted& wanted,
                               const std::vector<BackwardSegment<Storage<T>>>& segments,
                               Storage<T>* dkernel) {
    DeviceMemory memory(ctx);
    std::string said;
    const char* const error =
        cuda::backward(memory.context(&said), operands.kernel, segments, dkernel);
    if (verbose()) {
      const std::string title = operands.title("SharedMatMulGrad") + wanted.text();
      say_once(title + ", on a GPU", [&] { return said; });
    }
    return status("SharedMatMulGrad", error);
  }
};

SHARED_DENSE_REGISTER(Gpu, tensorflow::DEVICE_GPU)
REGISTER_KERNEL_BUILDER(Name("SharedDense>SharedMatMulOutput").Device(tensorflow::DEVICE_GPU),
                        SharedMatMulOutputOp);

}  // namespace
}  // namespace shared_dense

// For the loader, which checks the kernels after they registered and cannot take
// them back: from now on they fail with this reason.
extern "C" __attribute__((visibility("default"))) void shared_dense_gpu_refuse(const char* why) {
  shared_dense::Refusal& refused = shared_dense::refusal();
  const std::lock_guard<std::mutex> lock(refused.mutex);
  refused.why = why;
}
