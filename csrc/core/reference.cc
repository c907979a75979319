#include "core/reference.h"

#include <cmath>
#include <map>

namespace shared_dense {
namespace {

constexpr double kSqrt2OverPi = 0.79788456080286535588;

double logistic(double z) { return 1.0 / (1.0 + std::exp(-z)); }
double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }
double normal_pdf(double z) { return std::exp(-0.5 * z * z) / std::sqrt(2.0 * std::acos(-1.0)); }

template <class T>
double weight(const Kernel<T>& w, Index k, Index u) {
  return w.transpose_kernel ? w.data[u * w.in_features + k] : w.data[k * w.units + u];
}

template <class T>
double pre_activation(const Kernel<T>& w, const T* x, const T* bias, Index u) {
  double z = bias == nullptr ? 0.0 : bias[u];
  for (Index k = 0; k < w.in_features; ++k) z += double{x[k]} * weight(w, k, u);
  return z;
}

}  // namespace

double reference_activation(Activation activation, double z) {
  switch (activation) {
    case Activation::kLinear: return z;
    case Activation::kRelu: return z < 0 ? 0 : z;
    case Activation::kRelu6: return z < 0 ? 0 : z > 6 ? 6 : z;
    case Activation::kLeakyRelu: return z < 0 ? 0.2 * z : z;
    case Activation::kElu: return z < 0 ? std::expm1(z) : z;
    case Activation::kSigmoid: return logistic(z);
    case Activation::kTanh: return std::tanh(z);
    case Activation::kSilu: return z * logistic(z);
    case Activation::kGelu: return z * normal_cdf(z);
    case Activation::kGeluTanh:
      return 0.5 * z * (1 + std::tanh(kSqrt2OverPi * (z + 0.044715 * z * z * z)));
  }
  return NAN;  // no activation has this number
}

double reference_derivative(Activation activation, double z) {
  const double s = logistic(z), t = std::tanh(z);
  switch (activation) {
    case Activation::kLinear: return 1;
    case Activation::kRelu: return z > 0 ? 1 : 0;
    case Activation::kRelu6: return z > 0 && z < 6 ? 1 : 0;
    case Activation::kLeakyRelu: return z > 0 ? 1 : 0.2;
    case Activation::kElu: return z < 0 ? std::exp(z) : 1;
    case Activation::kSigmoid: return s * (1 - s);
    case Activation::kTanh: return 1 - t * t;
    case Activation::kSilu: return s * (1 + z * (1 - s));
    case Activation::kGelu: return normal_cdf(z) + z * normal_pdf(z);
    case Activation::kGeluTanh: {
      const double v = std::tanh(kSqrt2OverPi * (z + 0.044715 * z * z * z));
      return 0.5 * (1 + v) + 0.5 * z * (1 - v * v) * kSqrt2OverPi * (1 + 3 * 0.044715 * z * z);
    }
  }
  return NAN;
}

template <class T>
void reference_forward(const Kernel<T>& w, const std::vector<ForwardSegment<T>>& segments) {
  for (const ForwardSegment<T>& s : segments) {
    for (Index row = 0; row < s.rows; ++row) {
      for (Index u = 0; u < w.units; ++u) {
        const double z = pre_activation(w, s.x + row * w.in_features, s.bias, u);
        s.y[row * w.units + u] = static_cast<T>(reference_activation(s.activation, z));
      }
    }
  }
}

template <class T>
void reference_backward(const Kernel<T>& w, const std::vector<BackwardSegment<T>>& segments,
                        const std::vector<const T*>& bias, T* dkernel) {
  const Index in = w.in_features, units = w.units;
  std::vector<double> dw(in * units);
  std::map<T*, std::vector<double>> db;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const BackwardSegment<T>& s = segments[i];
    std::vector<double>& sum = db.try_emplace(s.dbias, units).first->second;
    for (Index row = 0; row < s.rows; ++row) {
      const T* x = s.x + row * in;
      std::vector<double> dx(in);
      for (Index u = 0; u < units; ++u) {
        const double z = pre_activation(w, x, bias[i], u);
        const double dz = s.dy[row * units + u] * reference_derivative(s.activation, z);
        sum[u] += dz;
        for (Index k = 0; k < in; ++k) {
          dx[k] += dz * weight(w, k, u);
          if (s.trains_kernel) dw[w.transpose_kernel ? u * in + k : k * units + u] += x[k] * dz;
        }
      }
      for (Index k = 0; k < in && s.dx != nullptr; ++k) s.dx[row * in + k] = static_cast<T>(dx[k]);
    }
  }
  for (std::size_t i = 0; i < dw.size() && dkernel != nullptr; ++i) {
    dkernel[i] = static_cast<T>(dw[i]);
  }
  for (const auto& [dbias, sum] : db) {
    for (Index u = 0; u < units && dbias != nullptr; ++u) dbias[u] = static_cast<T>(sum[u]);
  }
}

#define SHARED_DENSE_INSTANTIATE(T)                                                          \
  template void reference_forward(const Kernel<T>&, const std::vector<ForwardSegment<T>>&);  \
  template void reference_backward(const Kernel<T>&, const std::vector<BackwardSegment<T>>&, \
                                   const std::vector<const T*>&, T*);
SHARED_DENSE_INSTANTIATE(float)
SHARED_DENSE_INSTANTIATE(double)
#undef SHARED_DENSE_INSTANTIATE

}  // namespace shared_dense
