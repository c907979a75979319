// Registration and shape functions of the two ops. Op kernels: shared_matmul_op.h.
#include <string>
#include <vector>

#include "core/activation.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tf/attributes.h"

namespace shared_dense {
namespace {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// Checks the shapes both ops share and gives back the kernel's two sizes.
absl::Status check_operands(InferenceContext* c, const char* op, const Attributes& attributes,
                            const std::vector<ShapeHandle>& inputs, ShapeHandle kernel,
                            const std::vector<ShapeHandle>& biases, DimensionHandle* in_features,
                            DimensionHandle* units) {
  if (c->RankKnown(kernel) && c->Rank(kernel) != 2) {
    return invalid(op, ": kernel must have rank 2, got shape ", c->DebugString(kernel));
  }
  TF_RETURN_IF_ERROR(c->WithRank(kernel, 2, &kernel));
  *in_features = c->Dim(kernel, attributes.transpose_kernel ? 1 : 0);
  *units = c->Dim(kernel, attributes.transpose_kernel ? 0 : 1);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!c->RankKnown(inputs[i])) continue;
    if (c->Rank(inputs[i]) < 1) {
      return invalid(op, ": inputs[", i, "] must have rank >= 1, got a scalar");
    }
    DimensionHandle merged;
    if (!c->Merge(c->Dim(inputs[i], -1), *in_features, &merged).ok()) {
      return invalid(width_error(op, i, c->DebugString(inputs[i]), c->DebugString(kernel),
                                 c->Value(*in_features), attributes.transpose_kernel));
    }
    *in_features = merged;
  }
  for (std::size_t i = 0; i < biases.size(); ++i) {
    DimensionHandle merged;
    ShapeHandle bias;
    if (!c->WithRank(biases[i], 1, &bias).ok() ||
        !c->Merge(c->Dim(bias, 0), *units, &merged).ok()) {
      return invalid(bias_error(op, i, c->DebugString(biases[i]), c->DebugString(kernel),
                                c->ValueKnown(*units) ? c->Value(*units) : -1));
    }
    *units = merged;
  }
  return absl::OkStatus();
}

absl::Status forward_shape(InferenceContext* c) {
  Attributes attributes;
  TF_RETURN_IF_ERROR(attributes.read("SharedMatMul", c));
  std::vector<ShapeHandle> inputs, kernel, biases, outputs;
  TF_RETURN_IF_ERROR(c->input("inputs", &inputs));
  TF_RETURN_IF_ERROR(c->input("kernel", &kernel));
  TF_RETURN_IF_ERROR(c->input("biases", &biases));
  DimensionHandle in_features, units;
  TF_RETURN_IF_ERROR(check_operands(c, "SharedMatMul", attributes, inputs, kernel[0], biases,
                                    &in_features, &units));
  for (const ShapeHandle input : inputs) {
    ShapeHandle output = c->UnknownShape();
    if (c->RankKnown(input)) TF_RETURN_IF_ERROR(c->ReplaceDim(input, -1, units, &output));
    outputs.push_back(output);
  }
  bool wants_pre_activations = false;
  TF_RETURN_IF_ERROR(read_pre_activations(c, attributes, &wants_pre_activations));
  TF_RETURN_IF_ERROR(c->set_output("outputs", outputs));
  if (!wants_pre_activations) outputs.clear();
  return c->set_output("pre_activations", outputs);
}

absl::Status backward_shape(InferenceContext* c) {
  Attributes attributes;
  TF_RETURN_IF_ERROR(attributes.read("SharedMatMulGrad", c));
  std::vector<ShapeHandle> inputs, kernel, biases, input_grads, bias_grads;
  TF_RETURN_IF_ERROR(c->input("inputs", &inputs));
  TF_RETURN_IF_ERROR(c->input("kernel", &kernel));
  TF_RETURN_IF_ERROR(c->input("biases", &biases));
  DimensionHandle in_features, units;
  TF_RETURN_IF_ERROR(check_operands(c, "SharedMatMulGrad", attributes, inputs, kernel[0], biases,
                                    &in_features, &units));
  Wanted wanted;
  TF_RETURN_IF_ERROR(wanted.read(c));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (wanted.input[i]) input_grads.push_back(inputs[i]);
  }
  bias_grads.assign(wanted.biases, c->Vector(units));
  if (wanted.kernels == 0) kernel.clear();
  TF_RETURN_IF_ERROR(c->set_output("input_grads", input_grads));
  TF_RETURN_IF_ERROR(c->set_output("kernel_grads", kernel));
  return c->set_output("bias_grads", bias_grads);
}

}  // namespace

REGISTER_OP("SharedDense>SharedMatMul")
    .Input("inputs: N * T")
    .Input("kernel: T")
    .Input("biases: B * T")
    .Output("outputs: N * T")
    .Output("pre_activations: num_pre_activations * T")
    .Attr("T: {float, double, bfloat16, half}")
    .Attr("N: int >= 1")
    .Attr("B: int >= 0")
    .Attr("activations: list(string)")
    .Attr("transpose_kernel: bool = false")
    .Attr("bias_of: list(int) = []")
    .Attr("trains_kernel: list(bool) = []")
    .Attr("num_pre_activations: int >= 0 = 0")
    .SetShapeFn(forward_shape)
    .Doc(R"doc(
One kernel applied to several inputs: outputs[i] = activation(inputs[i] . kernel + bias).

inputs: [..., in_features] each, rank >= 1; any number of rows, 0 included.
kernel: [in_features, units], or [units, in_features] with transpose_kernel.
biases: [units] each: none, one shared, or one per input; any number with bias_of.
outputs: [..., units] each.
pre_activations: inputs[i] . kernel + bias before the activation: a cache for
  the gradient, not differentiable. All or none.
activations: one name, or one per input.
bias_of: per input the index of its bias, -1 for none; empty: as biases says.
trains_kernel: per input whether it takes part in the gradient of the kernel;
  empty: all do. The forward op hands it on to its gradient.
)doc");

REGISTER_OP("SharedDense>SharedMatMulGrad")
    .Input("output_grads: N * T")
    .Input("inputs: N * T")
    .Input("kernel: T")
    .Input("biases: B * T")
    .Input("saved: num_saved * T")
    .Output("input_grads: num_input_grads * T")
    .Output("kernel_grads: num_kernel_grads * T")
    .Output("bias_grads: num_bias_grads * T")
    .Attr("T: {float, double, bfloat16, half}")
    .Attr("N: int >= 1")
    .Attr("B: int >= 0")
    .Attr("num_saved: int >= 0")
    .Attr("activations: list(string)")
    .Attr("transpose_kernel: bool = false")
    .Attr("bias_of: list(int) = []")
    .Attr("trains_kernel: list(bool) = []")
    .Attr("needs_input_grad: list(bool)")
    .Attr("num_input_grads: int >= 0")
    .Attr("num_kernel_grads: int >= 0")
    .Attr("num_bias_grads: int >= 0")
    .SetShapeFn(backward_shape)
    .Doc(R"doc(
Gradient of SharedMatMul, as far as asked, with one accumulated kernel gradient.

output_grads: gradients of the outputs, [..., units] each.
biases: those of SharedMatMul; read by the gradient of this op only.
saved: per input the output or the pre-activation, whichever the derivative of
  its activation is computed from; empty when all activations are linear.
input_grads: one per true entry of needs_input_grad.
kernel_grads: none, or the gradient of the kernel, in its layout, from the
  inputs that train it.
bias_grads: none, or one [units] per bias, summed over the inputs that use it.
)doc");

}  // namespace shared_dense
