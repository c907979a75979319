// SharedMatMulOutput in functions that XLA compiles: nothing.
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace shared_dense {
namespace {

class SharedMatMulOutputXlaOp : public tensorflow::XlaOpKernel {
 public:
  using XlaOpKernel::XlaOpKernel;

  void Compile(tensorflow::XlaOpKernelContext* ctx) override { ctx->SetOutput(0, ctx->Input(0)); }
};

// With a priority: see shared_matmul.cc.
REGISTER_KERNEL_BUILDER(Name("SharedDense>SharedMatMulOutput").Device("XLA_CPU_JIT").Priority(1),
                        SharedMatMulOutputXlaOp);
REGISTER_KERNEL_BUILDER(Name("SharedDense>SharedMatMulOutput").Device("XLA_GPU_JIT").Priority(1),
                        SharedMatMulOutputXlaOp);

}  // namespace
}  // namespace shared_dense
