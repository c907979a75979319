#include "xla/activation.h"

#include "xla/hlo/builder/lib/constants.h"
#include "xla/hlo/builder/lib/math.h"

namespace shared_dense {
namespace {

using xla::ScalarLike;
using xla::XlaOp;

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

}  // namespace

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

XlaOp chain(Activation activation, XlaOp dy, XlaOp saved) {
  const XlaOp zero = xla::ZerosLike(saved), one = ScalarLike(saved, 1);
  const XlaOp positive = xla::Gt(saved, zero), none = xla::ZerosLike(dy);
  switch (activation) {
    case Activation::kLinear: return dy;
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
  }
  return dy;
}

}  // namespace shared_dense
