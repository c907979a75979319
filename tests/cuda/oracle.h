// The products in float64, and how far from them a result may be.
//
// As in tests/oracle.py: a sum of n products with unit roundoff u is off by at
// most n u / (1 - n u) times the sum of the absolute products, in any order.
// For float32 sums u is 2^-23 here, twice the roundoff: tensor cores cut the
// sums of an instruction off where they do not round them.
#pragma once

#include <cmath>
#include <vector>

#include "core/reference.h"
#include "core/shared_matmul.h"

namespace checks {

using shared_dense::Activation;
using shared_dense::Index;

template <class S>
constexpr double kSumRoundoff = 0x1p-23;
template <>
constexpr double kSumRoundoff<double> = 0x1p-53;

// Of one rounding to the storage type: 2^-p with p bits of significand.
template <class S>
constexpr double kRoundoff = 0x1p-24;
template <>
constexpr double kRoundoff<double> = 0x1p-53;
template <>
constexpr double kRoundoff<shared_dense::BFloat16> = 0x1p-8;
template <>
constexpr double kRoundoff<shared_dense::Half> = 0x1p-11;

// Of a factor in TensorFloat-32: 10 bits of fraction and the leading one, a tie
// away from zero.
constexpr double kTf32Roundoff = 0x1p-11;

// The smallest normal number.
template <class S>
constexpr double kLeast = 0x1p-126;
template <>
constexpr double kLeast<double> = 0x1p-1022;
template <>
constexpr double kLeast<shared_dense::Half> = 0x1p-14;

// Roundings of an activation or a derivative itself.
constexpr double kOwnRoundings = 32;
// The steepest any activation is.
constexpr double kSteepest = 1.13;

struct Exact {
  double value = 0, bound = 0;
};

struct Matrix {
  Index rows = 0, columns = 0;
  std::vector<double> item;
  double operator()(Index r, Index c) const { return item[r * columns + c]; }
};

template <class S>
double gamma(Index n) {
  const double u = kSumRoundoff<S> + 0x1p-53;
  return n * u / (1 - n * u);
}

// Both factors of a product rounded with unit roundoff u: 2 u + u^2 of it.
inline double of_factors(double roundoff) { return roundoff * (2 + roundoff); }

inline double kernel_at(const Matrix& w, bool transposed, Index k, Index u) {
  return transposed ? w(u, k) : w(k, u);
}

// z and its bound before it is stored; bias: empty, or one item a unit. The
// factors of its products are rounded with unit roundoff `factor`.
template <class S>
Exact exact_z(const Matrix& x, Index row, const Matrix& w, bool transposed,
              const std::vector<double>& bias, Index u, double factor) {
  double z = bias.empty() ? 0 : bias[u], size = 0;
  const double own = std::fabs(z);
  for (Index k = 0; k < x.columns; ++k) {
    const double product = x(row, k) * kernel_at(w, transposed, k, u);
    z += product;
    size += std::fabs(product);
  }
  const double rounded = of_factors(factor) * size;
  return {z, gamma<S>(x.columns + 2) * (own + size + rounded) + rounded};
}

template <class S>
Exact stored(Exact e) {
  return {e.value, e.bound + kRoundoff<S> * (std::fabs(e.value) + e.bound) + kLeast<S>};
}

template <class S>
Exact exact_y(Activation activation, const Exact& z) {
  const double y = shared_dense::reference_activation(activation, z.value);
  const double own = activation == Activation::kLinear
                         ? 0
                         : kOwnRoundings * kSumRoundoff<S> * (1 + std::fabs(z.value) + z.bound);
  return stored<S>({y, kSteepest * z.bound + own});
}

// f' from what is saved, exactly as stored.
inline double slope(Activation activation, double saved) {
  if (activation == Activation::kElu) return saved < 0 ? saved + 1 : 1;
  if (activation == Activation::kSigmoid) return saved * (1 - saved);
  if (activation == Activation::kTanh) return 1 - saved * saved;
  // y has the sign of z where f is made of straight pieces; the others save z.
  return shared_dense::reference_derivative(activation, saved);
}

// dZ as the products read it: rounded to the storage type unless it is dY.
template <class S>
Exact exact_dz(Activation activation, double dy, double saved) {
  if (activation == Activation::kLinear) return {dy, 0};
  const double own = kOwnRoundings * kSumRoundoff<S> * (1 + std::fabs(saved));
  return stored<S>({dy * slope(activation, saved), std::fabs(dy) * own});
}

// A sum of products with an inexact factor each; both are rounded with unit
// roundoff `factor` before they are multiplied.
struct Sum {
  double factor = 0;
  double value = 0, size = 0, error = 0;
  Index count = 0;
  void add(double a, const Exact& b) {
    value += a * b.value;
    size += std::fabs(a * b.value);
    error += std::fabs(a) * b.bound;
    ++count;
  }
  template <class S>
  Exact exact() const {
    const double off = error + of_factors(factor) * (size + error);
    return stored<S>({value, gamma<S>(count + 2) * (size + off) + off});
  }
};

}  // namespace checks
