// SharedMatMulOutput in functions that XLA compiles: nothing.
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace shared_dense {
namespace {

class SharedMatMulOutputJit : public tensorflow::XlaOpKernel {
 public:
  using XlaOpKernel::XlaOpKernel;

  void Compile(tensorflow::XlaOpKernelContext* ctx) override { ctx->SetOutput(0, ctx->Input(0)); }
};

// With a priority: see shared_matmul_jit.cc.
REGISTER_KERNEL_BUILDER(Name("SharedDense>SharedMatMulOutput").Device("XLA_CPU_JIT").Priority(1),
                        SharedMatMulOutputJit);
REGISTER_KERNEL_BUILDER(Name("SharedDense>SharedMatMulOutput").Device("XLA_GPU_JIT").Priority(1),
                        SharedMatMulOutputJit);

}  // namespace
}  // namespace shared_dense
