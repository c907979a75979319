#include "xla/dots.h"

#include <numeric>

#include "xla/activation.h"
#include "xla/hlo/builder/lib/arithmetic.h"
#include "xla/hlo/builder/lib/constants.h"

namespace shared_dense {
namespace {

using xla::XlaOp;
using Ops = std::vector<XlaOp>;

// Sums of half types are float32.
xla::PrimitiveType sum_type(xla::PrimitiveType type) {
  return type == xla::BF16 || type == xla::F16 ? xla::F32 : type;
}

XlaOp dot(XlaOp a, int a_axis, XlaOp b, int b_axis, xla::PrimitiveType type) {
  xla::DotDimensionNumbers axes;
  axes.add_lhs_contracting_dimensions(a_axis);
  axes.add_rhs_contracting_dimensions(b_axis);
  return xla::DotGeneral(a, b, axes, /*precision_config=*/nullptr, sum_type(type));
}

XlaOp stack(const Ops& list) {
  return list.size() == 1 ? list[0] : xla::ConcatInDim(list[0].builder(), list, 0);
}

}  // namespace

XlaOp Dots::rows_of(int i, XlaOp v, Index width) const {
  return xla::Reshape(v, {geometry.rows[i], width});
}

XlaOp Dots::result(XlaOp v, const TensorShape& shape) const {
  return xla::Reshape(xla::ConvertElementType(v, type), shape.dim_sizes());
}

std::vector<XlaOp> Dots::rows_products(const std::vector<int>& of, const Ops& rows,
                                       int axis) const {
  const XlaOp product = dot(stack(rows), 1, kernel, axis, type);
  if (of.size() == 1) return {product};
  Ops products;
  Index start = 0;
  for (const int i : of) {
    products.push_back(xla::SliceInDim(product, start, start + geometry.rows[i], 1, 0));
    start += geometry.rows[i];
  }
  return products;
}

std::vector<XlaOp> Dots::forward(bool wants_pre_activations) const {
  Ops rows;
  std::vector<int> all(inputs.size());
  std::iota(all.begin(), all.end(), 0);
  for (const int i : all) rows.push_back(rows_of(i, inputs[i], geometry.in_features));
  Ops outputs = rows_products(all, rows, attributes.transpose_kernel ? 1 : 0), pre_activations;
  for (const int i : all) {
    XlaOp z = outputs[i];
    if (attributes.bias_of[i] >= 0) {
      z = xla::Add(z, xla::ConvertElementType(biases[attributes.bias_of[i]], sum_type(type)), {1});
    }
    if (wants_pre_activations) pre_activations.push_back(result(z, geometry.output_shapes[i]));
    outputs[i] = result(activate(attributes.activations[i], z), geometry.output_shapes[i]);
  }
  outputs.insert(outputs.end(), pre_activations.begin(), pre_activations.end());
  return outputs;
}

XlaOp Dots::kernel_gradient(const std::vector<int>& of, const Ops& dz) const {
  Ops xs, dzs;
  for (const int i : of) {
    xs.push_back(rows_of(i, inputs[i], geometry.in_features));
    dzs.push_back(dz[i]);
  }
  const XlaOp x = stack(xs), all_dz = stack(dzs);
  return attributes.transpose_kernel ? dot(all_dz, 0, x, 0, type) : dot(x, 0, all_dz, 0, type);
}

std::vector<XlaOp> Dots::backward(const Ops& grads, const Ops& saved,
                                  const std::vector<TensorShape>& input_shapes,
                                  const Wanted& wanted) const {
  const std::size_t n = inputs.size();
  const xla::PrimitiveType sums = sum_type(type);
  Ops dz, sums_of_dz;  // dZ in the type of tensors, and in that of sums
  for (std::size_t i = 0; i < n; ++i) {
    const auto rows = [&](XlaOp v) {
      return xla::ConvertElementType(rows_of(i, v, geometry.units), sums);
    };
    const XlaOp grad = rows(grads[i]);
    sums_of_dz.push_back(
        attributes.is_linear(i) ? grad : chain(attributes.activations[i], grad, rows(saved[i])));
    dz.push_back(xla::ConvertElementType(sums_of_dz[i], type));
  }

  Ops results, wanted_dz;
  std::vector<int> wanted_inputs, training;
  for (std::size_t i = 0; i < n; ++i) {
    if (attributes.trains_kernel[i]) training.push_back(i);
    if (!wanted.input[i]) continue;
    wanted_inputs.push_back(i);
    wanted_dz.push_back(dz[i]);
  }
  if (wanted.inputs > 0) {
    const Ops dx = rows_products(wanted_inputs, wanted_dz, attributes.transpose_kernel ? 0 : 1);
    for (std::size_t j = 0; j < dx.size(); ++j) {
      results.push_back(result(dx[j], input_shapes[wanted_inputs[j]]));
    }
  }
  if (wanted.kernels > 0) {
    results.push_back(training.empty()
                          ? xla::ZerosLike(kernel)
                          : xla::ConvertElementType(kernel_gradient(training, dz), type));
  }
  std::vector<std::vector<std::size_t>> users(biases.size());
  for (std::size_t i = 0; i < n; ++i) {
    if (attributes.bias_of[i] >= 0) users[attributes.bias_of[i]].push_back(i);
  }
  for (int b = 0; b < wanted.biases; ++b) {
    XlaOp sum = xla::ConvertElementType(xla::ZerosLike(biases[b]), sums);
    for (const std::size_t i : users[b]) {
      sum = sum + xla::Reduce(sums_of_dz[i], xla::Zero(kernel.builder(), sums),
                              xla::CreateScalarAddComputation(sums, kernel.builder()), {0});
    }
    results.push_back(xla::ConvertElementType(sum, type));
  }
  return results;
}

}  // namespace shared_dense
