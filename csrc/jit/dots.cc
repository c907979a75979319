#include "jit/dots.h"

#include "xla/hlo/builder/lib/arithmetic.h"
#include "xla/hlo/builder/lib/constants.h"
#include "xla/hlo/builder/lib/math.h"

namespace shared_dense {
namespace {

using xla::ScalarLike;
using xla::XlaOp;
using Ops = std::vector<XlaOp>;

constexpr double kSqrtTwoOverPi = 0.79788456080286535588;
constexpr double kInvSqrtTwoPi = 0.39894228040143267794;
constexpr double kSqrtHalf = 0.70710678118654752440;
constexpr double kGeluCubic = 0.044715;

// Beyond it the tails of the normal distribution are 0 in float64 too.
XlaOp held(XlaOp z) {
  const XlaOp most = xla::FullLike(z, 40);
  return xla::Select(xla::Gt(z, most), most, xla::Select(xla::Lt(z, -most), -most, z));
}

XlaOp normal_cdf(XlaOp z) { return ScalarLike(z, 0.5) * xla::Erfc(ScalarLike(z, -kSqrtHalf) * z); }

// (1 + tanh(u)) / 2 = sigmoid(2 u), u = sqrt(2/pi) (z + 0.044715 z^3)
XlaOp gelu_tanh_gate(XlaOp z) {
  const XlaOp cubic = z * (ScalarLike(z, 1) + ScalarLike(z, kGeluCubic) * z * z);
  return xla::Logistic(ScalarLike(z, 2 * kSqrtTwoOverPi) * cubic);
}

// Comparisons are written so that a NaN passes through.
XlaOp activate(Activation activation, XlaOp z) {
  const XlaOp zero = xla::ZerosLike(z), six = xla::FullLike(z, 6);
  const XlaOp negative = xla::Lt(z, zero);
  switch (activation) {
    case Activation::kLinear: return z;
    case Activation::kRelu: return xla::Select(negative, zero, z);
    case Activation::kRelu6:
      return xla::Select(negative, zero, xla::Select(xla::Gt(z, six), six, z));
    case Activation::kLeakyRelu: return xla::Select(negative, z * ScalarLike(z, 0.2), z);
    case Activation::kElu: return xla::Select(negative, xla::Expm1(z), z);
    case Activation::kSigmoid: return xla::Logistic(z);
    case Activation::kTanh: return xla::Tanh(z);
    case Activation::kSilu: return z * xla::Logistic(z);
    case Activation::kGelu: return z * normal_cdf(z);
    case Activation::kGeluTanh: return z * gelu_tanh_gate(z);
  }
  return z;
}

// dy * f'(z), from y or from z as saved_for(activation) says.
XlaOp chain(Activation activation, XlaOp dy, XlaOp saved) {
  if (activation == Activation::kLinear) return dy;
  const XlaOp zero = xla::ZerosLike(saved), one = ScalarLike(saved, 1);
  const XlaOp positive = xla::Gt(saved, zero), none = xla::ZerosLike(dy);
  switch (activation) {
    case Activation::kRelu: return xla::Select(positive, dy, none);
    case Activation::kRelu6:
      return xla::Select(xla::And(positive, xla::Lt(saved, ScalarLike(saved, 6))), dy, none);
    case Activation::kLeakyRelu: return xla::Select(positive, dy, dy * ScalarLike(dy, 0.2));
    case Activation::kElu: return xla::Select(xla::Lt(saved, zero), dy * (saved + one), dy);
    case Activation::kSigmoid: return dy * saved * (one - saved);
    case Activation::kTanh: return dy * (one - saved * saved);
    case Activation::kSilu: {
      const XlaOp s = xla::Logistic(saved);
      return dy * s * (one + saved * xla::Logistic(-saved));
    }
    case Activation::kGelu: {
      const XlaOp z = held(saved);
      const XlaOp density = ScalarLike(z, kInvSqrtTwoPi) * xla::Exp(ScalarLike(z, -0.5) * z * z);
      return dy * (normal_cdf(z) + z * density);
    }
    case Activation::kGeluTanh: {
      const XlaOp z = held(saved), gate = gelu_tanh_gate(z), rest = gelu_tanh_gate(-z);
      const XlaOp du =
          ScalarLike(z, kSqrtTwoOverPi) * (one + ScalarLike(z, 3 * kGeluCubic) * z * z);
      return dy * gate * (one + ScalarLike(z, 2) * z * rest * du);
    }
    default: return dy;
  }
}

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

// Products with the kernel, of stacked rows.
Ops rows_products(const Ops& list, const std::vector<Index>& rows, XlaOp kernel, int axis,
                  xla::PrimitiveType type) {
  const XlaOp product = dot(stack(list), 1, kernel, axis, type);
  if (list.size() == 1) return {product};
  Ops parts;
  Index start = 0;
  for (const Index count : rows) {
    parts.push_back(xla::SliceInDim(product, start, start + count, 1, 0));
    start += count;
  }
  return parts;
}

}  // namespace

std::vector<XlaOp> Dots::forward(bool kept) const {
  Ops flat;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    flat.push_back(xla::Reshape(inputs[i], {geometry.rows[i], geometry.in_features}));
  }
  Ops outputs = rows_products(flat, geometry.rows, kernel, transposed ? 1 : 0, type);
  Ops pre_activations;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    XlaOp z = outputs[i];
    if (geometry.bias_of[i] >= 0) {
      z = xla::Add(z, xla::ConvertElementType(biases[geometry.bias_of[i]], sum_type(type)), {1});
    }
    const auto shaped = [&](XlaOp v) {
      return xla::Reshape(xla::ConvertElementType(v, type), geometry.output_shapes[i].dim_sizes());
    };
    if (kept) pre_activations.push_back(shaped(z));
    outputs[i] = shaped(activate(geometry.activations[i], z));
  }
  outputs.insert(outputs.end(), pre_activations.begin(), pre_activations.end());
  return outputs;
}

std::vector<XlaOp> Dots::backward(const Ops& grads, const Ops& saved,
                                  const std::vector<TensorShape>& input_shapes,
                                  const Attributes& attributes, const Wanted& wanted) const {
  const std::size_t n = inputs.size();
  const xla::PrimitiveType sums = sum_type(type);
  Ops dz, sums_of_dz;  // dZ in the type of tensors, and in that of sums
  for (std::size_t i = 0; i < n; ++i) {
    const auto flat = [&](XlaOp v) {
      return xla::ConvertElementType(xla::Reshape(v, {geometry.rows[i], geometry.units}), sums);
    };
    const XlaOp grad = flat(grads[i]);
    sums_of_dz.push_back(
        geometry.is_linear(i) ? grad : chain(geometry.activations[i], grad, flat(saved[i])));
    dz.push_back(xla::ConvertElementType(sums_of_dz[i], type));
  }

  Ops results, wanted_dz;
  std::vector<Index> wanted_rows;
  for (std::size_t i = 0; i < n; ++i) {
    if (!wanted.input[i]) continue;
    wanted_dz.push_back(dz[i]);
    wanted_rows.push_back(geometry.rows[i]);
  }
  if (wanted.inputs > 0) {
    const Ops dx = rows_products(wanted_dz, wanted_rows, kernel, transposed ? 0 : 1, type);
    for (std::size_t i = 0; i < n; ++i) {
      if (!wanted.input[i]) continue;
      results.push_back(xla::Reshape(xla::ConvertElementType(dx[results.size()], type),
                                     input_shapes[i].dim_sizes()));
    }
  }
  if (wanted.kernels > 0) {
    Ops training_x, training_dz;
    for (std::size_t i = 0; i < n; ++i) {
      if (!attributes.trains(i)) continue;
      training_x.push_back(xla::Reshape(inputs[i], {geometry.rows[i], geometry.in_features}));
      training_dz.push_back(dz[i]);
    }
    if (training_x.empty()) {
      results.push_back(xla::ZerosLike(kernel));
    } else {
      const XlaOp x = stack(training_x), z = stack(training_dz);
      results.push_back(xla::ConvertElementType(
          transposed ? dot(z, 0, x, 0, type) : dot(x, 0, z, 0, type), type));
    }
  }
  for (int b = 0; b < wanted.biases; ++b) {
    const XlaOp zero = xla::Zero(kernel.builder(), sums);
    XlaOp sum = xla::Broadcast(zero, {geometry.units});
    for (std::size_t i = 0; i < n; ++i) {
      if (geometry.bias_of[i] != b) continue;
      sum = sum + xla::Reduce(sums_of_dz[i], zero,
                              xla::CreateScalarAddComputation(sums, kernel.builder()), {0});
    }
    results.push_back(xla::ConvertElementType(sum, type));
  }
  return results;
}

}  // namespace shared_dense
