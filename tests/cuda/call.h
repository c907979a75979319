// One call of csrc/cuda on made-up numbers, and its comparison with the oracle.
#pragma once

#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "cuda/shared_matmul.h"
#include "memory.h"
#include "numbers.h"
#include "oracle.h"

namespace checks {

struct Case {
  std::string name;
  std::vector<Index> rows;
  Index in_features, units;
  bool transposed = false;
  std::vector<Activation> activations = {Activation::kLinear};  // in turns
  int biases = 1;               // input i uses bias i % biases; 0: none
  std::size_t shift = 0;        // items by which buffers are off an aligned address
  bool aligned_kernel = false;  // all but W
  bool selective = false;       // every third input: no dX, and it does not train the kernel
  bool tf32 = false;            // allowed
  double factor() const { return tf32 ? kTf32Roundoff : 0; }
};

template <class S>
std::vector<S> random_items(Index count, std::mt19937* random, double scale) {
  std::normal_distribution<double> normal(0, scale);
  std::vector<S> items(count);
  for (S& item : items) {
    host_numbers::narrow(static_cast<shared_dense::Accumulator<S>>(normal(*random)), &item);
  }
  return items;
}

template <class S>
Matrix matrix(Index rows, Index columns, const std::vector<S>& items) {
  Matrix m{rows, columns, {}};
  for (const S item : items) m.item.push_back(host_numbers::widen(item));
  return m;
}

// Inputs of a case on the host: the same for each run of it.
template <class S>
struct Numbers {
  std::vector<std::vector<S>> x, dy, saved, bias;
  std::vector<S> w;

  explicit Numbers(const Case& c) {
    std::mt19937 random(7);
    w = random_items<S>(c.in_features * c.units, &random, 0.3);
    for (int i = 0; i < c.biases; ++i) bias.push_back(random_items<S>(c.units, &random, 1));
    for (const Index rows : c.rows) {
      x.push_back(random_items<S>(rows * c.in_features, &random, 1));
      dy.push_back(random_items<S>(rows * c.units, &random, 1));
      saved.push_back(random_items<S>(rows * c.units, &random, 1));
    }
  }
};

template <class S>
struct Results {
  std::vector<std::vector<S>> y, z, dx, dbias;
  std::vector<S> dw;
  std::string said;  // of the plans
};

inline Activation activation_of(const Case& c, std::size_t i) {
  return c.activations[i % c.activations.size()];
}
inline bool selected(const Case& c, std::size_t i) { return !c.selective || i % 3 != 2; }

inline bool& failed() {
  static bool any = false;
  return any;
}
inline void fail(const Case& c, const std::string& what) {
  failed() = true;
  std::printf("FAILED %s: %s\n", c.name.c_str(), what.c_str());
}

template <class S>
Results<S> run(const Case& c, const Numbers<S>& n) {
  using namespace shared_dense;
  const std::size_t inputs = c.rows.size();
  std::vector<Buffer<S>> x, dy, saved, bias, y, z, dx, dbias;
  for (std::size_t i = 0; i < inputs; ++i) {
    x.emplace_back(n.x[i], c.shift);
    dy.emplace_back(n.dy[i], c.shift);
    saved.emplace_back(n.saved[i], c.shift);
    y.emplace_back(c.rows[i] * c.units, c.shift);
    z.emplace_back(c.rows[i] * c.units, c.shift);
    dx.emplace_back(c.rows[i] * c.in_features, c.shift);
  }
  for (const std::vector<S>& b : n.bias) {
    bias.emplace_back(b, c.shift);
    dbias.emplace_back(b.size(), c.shift);
  }
  Buffer<S> w(n.w, c.aligned_kernel ? 0 : c.shift), dw(n.w.size(), c.shift);
  std::vector<ForwardSegment<S>> forwards;
  std::vector<BackwardSegment<S>> backwards;
  for (std::size_t i = 0; i < inputs; ++i) {
    const bool biased = c.biases > 0;
    const Activation activation = activation_of(c, i);
    forwards.push_back({c.rows[i], x[i].data(), y[i].data(), i % 2 == 0 ? z[i].data() : nullptr,
                        biased ? bias[i % c.biases].data() : nullptr, activation});
    backwards.push_back({c.rows[i], x[i].data(), dy[i].data(),
                         activation == Activation::kLinear ? nullptr : saved[i].data(),
                         selected(c, i) ? dx[i].data() : nullptr,
                         biased ? dbias[i % c.biases].data() : nullptr, activation,
                         selected(c, i)});
  }
  const Kernel<S> kernel{w.data(), c.in_features, c.units, c.transposed};
  DeviceScratch scratch;
  Results<S> r;
  const shared_dense::cuda::Context context{nullptr, &scratch, c.tf32, &r.said};
  const char* error = shared_dense::cuda::forward(context, kernel, forwards);
  if (error == nullptr) error = shared_dense::cuda::backward(context, kernel, backwards, dw.data());
  if (error != nullptr) fail(c, error);
  bool inside = dw.read(&r.dw);
  const auto read = [&](std::vector<Buffer<S>>& from, std::vector<std::vector<S>>* to) {
    to->resize(from.size());
    for (std::size_t i = 0; i < from.size(); ++i) inside &= from[i].read(&(*to)[i]);
  };
  read(y, &r.y);
  read(z, &r.z);
  read(dx, &r.dx);
  read(dbias, &r.dbias);
  if (!inside) fail(c, "wrote outside of an output");
  return r;
}

// got[i] against exact(i); the worst is reported.
template <class S, class ExactAt>
void compare(const Case& c, const std::string& name, const std::vector<S>& got,
             const ExactAt& exact) {
  double worst = 1;
  std::string text;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const Exact e = exact(static_cast<Index>(i));
    const double value = host_numbers::widen(got[i]), error = std::fabs(value - e.value);
    if (error <= worst * e.bound) continue;
    char line[200];
    std::snprintf(line, sizeof line, "[%zu]: got %.9g, exact %.9g, error %.3g > bound %.3g", i,
                  value, e.value, error, e.bound);
    text = name + line;
    if (std::isnan(error)) break;
    worst = error / e.bound;
  }
  if (!text.empty()) fail(c, text);
}

template <class S>
void check(const Case& c, const Numbers<S>& n, const Results<S>& r) {
  const Index in = c.in_features, units = c.units;
  const Matrix w = matrix(c.transposed ? units : in, c.transposed ? in : units, n.w);
  std::vector<Matrix> xs, biases;
  std::vector<std::vector<Exact>> dzs;
  for (const std::vector<S>& b : n.bias) biases.push_back(matrix(1, units, b));
  for (std::size_t i = 0; i < c.rows.size(); ++i) {
    const std::string at = "[" + std::to_string(i) + "]";
    const Activation activation = activation_of(c, i);
    xs.push_back(matrix(c.rows[i], in, n.x[i]));
    const std::vector<double> bias =
        c.biases == 0 ? std::vector<double>() : biases[i % c.biases].item;
    const auto z = [&](Index j) {
      return exact_z<S>(xs[i], j / units, w, c.transposed, bias, j % units, c.factor());
    };
    compare(c, "y" + at, r.y[i], [&](Index j) { return exact_y<S>(activation, z(j)); });
    if (i % 2 == 0) compare(c, "z" + at, r.z[i], [&](Index j) { return stored<S>(z(j)); });

    std::vector<Exact>& dz = dzs.emplace_back();
    for (std::size_t j = 0; j < n.dy[i].size(); ++j) {
      dz.push_back(exact_dz<S>(activation, host_numbers::widen(n.dy[i][j]),
                               host_numbers::widen(n.saved[i][j])));
    }
    if (!selected(c, i)) continue;
    compare(c, "dx" + at, r.dx[i], [&](Index j) {
      Sum sum{c.factor()};
      for (Index u = 0; u < units; ++u) {
        sum.add(kernel_at(w, c.transposed, j % in, u), dz[j / in * units + u]);
      }
      return sum.exact<S>();
    });
  }
  compare(c, "dw", r.dw, [&](Index j) {
    const Index k = c.transposed ? j % in : j / units, u = c.transposed ? j / in : j % units;
    Sum sum{c.factor()};
    for (std::size_t i = 0; i < c.rows.size(); ++i) {
      for (Index row = 0; row < c.rows[i] && selected(c, i); ++row) {
        sum.add(xs[i](row, k), dzs[i][row * units + u]);
      }
    }
    return sum.exact<S>();
  });
  for (int b = 0; b < c.biases; ++b) {
    if (static_cast<std::size_t>(b) >= c.rows.size()) continue;  // nobody's: not written
    compare(c, "dbias[" + std::to_string(b) + "]", r.dbias[b], [&](Index u) {
      Sum sum;
      for (std::size_t i = b; i < c.rows.size(); i += c.biases) {
        for (Index row = 0; row < c.rows[i]; ++row) sum.add(1, dzs[i][row * units + u]);
      }
      return sum.exact<S>();
    });
  }
}

}  // namespace checks
