// SharedMatMulOutput: stands between a result of SharedMatMul and whoever uses
// it. TensorFlow fills in zeros for the gradient of an output that no loss uses;
// the gradient of this op runs only where there is one.
#include "tf/shared_matmul_output.h"

#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"

namespace shared_dense {
namespace {

REGISTER_OP("SharedDense>SharedMatMulOutput")
    .Input("input: T")
    .Output("output: T")
    .Attr("T: {float, double, bfloat16, half}")
    .SetShapeFn(tensorflow::shape_inference::UnchangedShape)
    .Doc(R"doc(
Its input. The gradient of SharedMatMul takes an output without a gradient through
this op for one that nobody asked for.
)doc");

REGISTER_KERNEL_BUILDER(Name("SharedDense>SharedMatMulOutput").Device(tensorflow::DEVICE_CPU),
                        SharedMatMulOutputOp);

}  // namespace
}  // namespace shared_dense
