// Activations and their derivatives on one value: the formulas of
// core/isa/epilogue.inc over the functions of CUDA's mathematics library.
#pragma once

#include "core/types.h"
#include "cuda/ptx.h"

namespace shared_dense::cuda {

template <class T>
constexpr T kSqrtTwoOverPi = T(0.79788456080286535588);
template <class T>
constexpr T kInvSqrtTwoPi = T(0.39894228040143267794);
template <class T>
constexpr T kGeluCubic = T(0.044715);
// Beyond it the tails of the normal distribution are 0 in float64 too.
template <class T>
constexpr T kNormalMost = T(40);

// 1 / (1 + e^-x) and, in `rest`, 1 minus it, both to relative precision.
template <class T>
__device__ inline T sigmoid(T x, T* rest) {
  const T e = exp(-fabs(x));
  const T large = T(1) / (T(1) + e), small = e * large;
  *rest = x > T(0) ? small : large;
  return x > T(0) ? large : small;
}

// Comparisons are written so that a NaN passes through.
template <class T>
__device__ inline T held(T x, T low, T high) {
  return x < low ? low : x > high ? high : x;
}

// (1 + tanh(u)) / 2 = sigmoid(2 u), u = sqrt(2/pi) (z + 0.044715 z^3)
template <class T>
__device__ inline T gelu_tanh_gate(T z, T* rest) {
  const T cubic = z * fma(kGeluCubic<T> * z, z, T(1));
  return sigmoid(T(2) * kSqrtTwoOverPi<T> * cubic, rest);
}

template <Activation kActivation, class T>
__device__ inline T activate(T z) {
  T rest;
  switch (kActivation) {
    case Activation::kLinear: return z;
    case Activation::kRelu: return z < T(0) ? T(0) : z;
    case Activation::kRelu6: return held(z, T(0), T(6));
    case Activation::kLeakyRelu: return z < T(0) ? z * T(0.2) : z;
    case Activation::kElu: return z < T(0) ? expm1(z) : z;
    case Activation::kSigmoid: return sigmoid(z, &rest);
    case Activation::kTanh: return tanh(z);
    case Activation::kSilu: return z * sigmoid(z, &rest);
    case Activation::kGelu: return z * normcdf(held(z, -kNormalMost<T>, kNormalMost<T>));
    case Activation::kGeluTanh: return z * gelu_tanh_gate(z, &rest);
  }
  return z;
}

template <Activation kActivation, class T, int kCount>
__device__ inline void activate_each(T (&z)[kCount]) {
#pragma unroll
  for (int e = 0; e < kCount; ++e) z[e] = activate<kActivation>(z[e]);
}

// One decision for some values.
template <class T, int kCount>
__device__ inline void activate_all(Activation activation, T (&z)[kCount]) {
  switch (activation) {
    case Activation::kLinear: return;
    case Activation::kRelu: return activate_each<Activation::kRelu>(z);
    case Activation::kRelu6: return activate_each<Activation::kRelu6>(z);
    case Activation::kLeakyRelu: return activate_each<Activation::kLeakyRelu>(z);
    case Activation::kElu: return activate_each<Activation::kElu>(z);
    case Activation::kSigmoid: return activate_each<Activation::kSigmoid>(z);
    case Activation::kTanh: return activate_each<Activation::kTanh>(z);
    case Activation::kSilu: return activate_each<Activation::kSilu>(z);
    case Activation::kGelu: return activate_each<Activation::kGelu>(z);
    case Activation::kGeluTanh: return activate_each<Activation::kGeluTanh>(z);
  }
}

// dy * f'(z), from y or from z as saved_for(activation) says.
template <class T>
__device__ inline T chain(Activation activation, T dy, T saved) {
  T rest;
  switch (activation) {
    case Activation::kLinear: return dy;
    case Activation::kRelu: return saved > T(0) ? dy : T(0);
    case Activation::kRelu6: return saved > T(0) && saved < T(6) ? dy : T(0);
    case Activation::kLeakyRelu: return saved > T(0) ? dy : dy * T(0.2);
    case Activation::kElu: return saved < T(0) ? dy * (saved + T(1)) : dy;
    case Activation::kSigmoid: return dy * saved * (T(1) - saved);
    case Activation::kTanh: return dy * (T(1) - saved * saved);
    case Activation::kSilu: {
      const T s = sigmoid(saved, &rest);
      return dy * s * (T(1) + saved * rest);
    }
    case Activation::kGelu: {
      const T z = held(saved, -kNormalMost<T>, kNormalMost<T>);
      return dy * (normcdf(z) + z * (kInvSqrtTwoPi<T> * exp(T(-0.5) * z * z)));
    }
    case Activation::kGeluTanh: {
      const T z = held(saved, -kNormalMost<T>, kNormalMost<T>);
      const T gate = gelu_tanh_gate(z, &rest);
      const T du = kSqrtTwoOverPi<T> * (T(1) + T(3) * kGeluCubic<T> * z * z);
      return dy * gate * (T(1) + T(2) * z * rest * du);
    }
  }
  return dy;
}

}  // namespace shared_dense::cuda
