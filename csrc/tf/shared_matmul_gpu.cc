// GPU kernels of the two ops: work for the stream that TensorFlow gives.
#include <deque>
#include <utility>

#include "cuda/shared_matmul.h"
#include "tf/shared_matmul_op.h"
#include "xla/stream_executor/stream.h"

namespace shared_dense {
namespace {

// Memory of TensorFlow's allocator. What is given back when a call returns goes
// to work that the stream does later.
class DeviceMemory : public Scratch {
 public:
  explicit DeviceMemory(OpKernelContext* ctx) : ctx_(ctx) {}

  cuda::Context context() {
    void* const stream = ctx_->op_device_context()->stream()->platform_specific_handle().stream;
    return {static_cast<CUstream_st*>(stream), this};
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

struct Gpu {
  static absl::Status ready() { return absl::OkStatus(); }

  static absl::Status zero(OpKernelContext* ctx, Tensor* tensor) {
    DeviceMemory memory(ctx);
    return status("SharedMatMulGrad",
                  cuda::zero(memory.context(), tensor->data(), tensor->TotalBytes()));
  }

  template <class T>
  static absl::Status forward(OpKernelContext* ctx, const Operands<T>& operands,
                              const std::vector<ForwardSegment<Storage<T>>>& segments) {
    DeviceMemory memory(ctx);
    return status("SharedMatMul", cuda::forward(memory.context(), operands.kernel, segments));
  }

  template <class T>
  static absl::Status backward(OpKernelContext* ctx, const Operands<T>& operands, const Attributes&,
                               const Wanted&,
                               const std::vector<BackwardSegment<Storage<T>>>& segments,
                               Storage<T>* dkernel) {
    DeviceMemory memory(ctx);
    return status("SharedMatMulGrad",
                  cuda::backward(memory.context(), operands.kernel, segments, dkernel));
  }
};

SHARED_DENSE_REGISTER(Gpu, tensorflow::DEVICE_GPU)

}  // namespace
}  // namespace shared_dense
