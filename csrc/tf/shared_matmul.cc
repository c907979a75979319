// The op kernels for the CPU.
#include "core/shared_matmul.h"

#include <cstring>

#include "core/explain.h"
#include "core/products.h"
#include "tf/framework.h"
#include "tf/shared_matmul_op.h"
#include "tf/verbose.h"

namespace shared_dense {
namespace {

struct Cpu {
  static absl::Status ready() {
    if (active_isa() == nullptr) return absl::FailedPreconditionError(isa_error());
    return absl::OkStatus();
  }

  static absl::Status zero(OpKernelContext*, Tensor* tensor) {
    std::memset(tensor->data(), 0, tensor->TotalBytes());
    return absl::OkStatus();
  }

  template <class T>
  static absl::Status forward(OpKernelContext* ctx, const Operands<T>& operands,
                              const std::vector<ForwardSegment<Storage<T>>>& segments) {
    Framework framework(ctx);
    const Context context = framework.context();
    if (verbose()) {
      say_once(operands.title("SharedMatMul"), [&] {
        const CallShape shape = operands.shape([](int) { return true; });
        return "  " + explain_forward<Storage<T>>(*context.isa, workers_of(context), shape) + "\n";
      });
    }
    if (shared_dense::forward(context, operands.kernel, segments)) return absl::OkStatus();
    return absl::ResourceExhaustedError("SharedMatMul: no memory for packed weights");
  }

  template <class T>
  static absl::Status backward(OpKernelContext* ctx, const Operands<T>& operands,
                               const Attributes& attributes, const Wanted& wanted,
                               const std::vector<BackwardSegment<Storage<T>>>& segments,
                               Storage<T>* dkernel) {
    Framework framework(ctx);
    const Context context = framework.context();
    if (verbose()) {
      say_once(operands.title("SharedMatMulGrad") + wanted.text(), [&] {
        const Workers workers = workers_of(context);
        std::string lines;
        if (wanted.inputs > 0) {
          const CallShape shape = operands.shape([&](int i) { return wanted.input[i]; });
          lines += "  " + explain_input_gradient<Storage<T>>(*context.isa, workers, shape) + "\n";
        }
        if (wanted.kernels > 0) {
          const CallShape shape =
              operands.shape([&](int i) { return attributes.trains_kernel[i]; });
          lines += "  " + explain_kernel_gradient<Storage<T>>(*context.isa, workers, shape) + "\n";
        }
        return lines;
      });
    }
    if (shared_dense::backward(context, operands.kernel, segments, dkernel)) {
      return absl::OkStatus();
    }
    return absl::ResourceExhaustedError("SharedMatMulGrad: no memory for packed weights or dZ");
  }
};

SHARED_DENSE_REGISTER(Cpu, tensorflow::DEVICE_CPU)

}  // namespace
}  // namespace shared_dense
