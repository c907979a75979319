// One case: its numbers, its buffers on the device, and how far from the
// float64 oracle a sample of a result is.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "clock.h"
#include "memory.h"
#include "numbers.h"
#include "oracle.h"

namespace bench {

using checks::Buffer;
using checks::Exact;

struct Case {
  std::string text;
  std::vector<Index> rows;
  Index in_features, units;
  bool backward, tf32;
};

// Scratch out of one block that every call starts anew, so that no allocation
// is timed.
class Arena : public shared_dense::Scratch {
 public:
  void* allocate(std::size_t bytes) override {
    const std::size_t at = used_;
    used_ += (bytes + 255) / 256 * 256;
    most_ = std::max(most_, used_);
    return used_ > kBytes ? nullptr : static_cast<unsigned char*>(memory_) + at;
  }
  void begin_call() { used_ = 0; }
  void begin_case() { used_ = most_ = 0; }
  std::size_t most() const { return most_; }

 private:
#if defined(__CUDACC__)
  static constexpr std::size_t kBytes = std::size_t{2} << 30;
#else
  static constexpr std::size_t kBytes = std::size_t{64} << 20;
#endif
  void* const memory_ = checks::take(kBytes);
  std::size_t used_ = 0, most_ = 0;
};

// Numbers in (-scale, scale) out of a pool whose length no matrix shares.
template <class S>
std::vector<S> some_numbers(Index count, unsigned seed, float scale) {
  static const std::vector<float> pool = [] {
    std::mt19937 random(1);
    std::uniform_real_distribution<float> uniform(-1, 1);
    std::vector<float> made(100003);
    for (float& value : made) value = uniform(random);
    return made;
  }();
  std::vector<S> narrowed(pool.size()), items(count);
  for (std::size_t i = 0; i < pool.size(); ++i) {
    using T = shared_dense::Accumulator<S>;
    host_numbers::narrow(static_cast<T>(pool[i] * scale), &narrowed[i]);
  }
  std::size_t at = seed * 7919u % pool.size();
  for (S& item : items) {
    item = narrowed[at];
    at = at + 1 == pool.size() ? 0 : at + 1;
  }
  return items;
}

template <class S>
struct Problem {
  const Case& of;
  std::vector<std::vector<S>> x, dy;
  std::vector<S> w, bias;
  std::vector<Buffer<S>> x_device, dy_device, y_device, dx_device;
  Buffer<S> w_device, bias_device, dw_device;

  explicit Problem(const Case& c)
      : of(c),
        w(some_numbers<S>(c.in_features * c.units, 1, 2 / std::sqrt(float(c.in_features)))),
        bias(some_numbers<S>(c.units, 2, 1)),
        w_device(w, 0),
        bias_device(bias, 0),
        dw_device(w.size()) {
    for (std::size_t i = 0; i < c.rows.size(); ++i) {
      x.push_back(some_numbers<S>(c.rows[i] * c.in_features, 10 + i, 1));
      x_device.emplace_back(x.back(), 0);
      if (c.backward) {
        dy.push_back(some_numbers<S>(c.rows[i] * c.units, 5000 + i, 1));
        dy_device.emplace_back(dy.back(), 0);
        dx_device.emplace_back(c.rows[i] * c.in_features);
      } else {
        y_device.emplace_back(c.rows[i] * c.units);
      }
    }
  }

  Index rows() const {
    Index sum = 0;
    for (const Index r : of.rows) sum += r;
    return sum;
  }

  // All results as NaN: what is not written shows.
  void poison() {
    const auto fill = [](Buffer<S>& to, Index count) {
      const std::vector<unsigned char> ones(count * sizeof(S), 0xFF);
      if (count > 0) checks::copy_in(to.data(), ones.data(), ones.size());
    };
    for (std::size_t i = 0; i < of.rows.size(); ++i) {
      if (of.backward) {
        fill(dx_device[i], of.rows[i] * of.in_features);
      } else {
        fill(y_device[i], of.rows[i] * of.units);
      }
    }
    if (of.backward) fill(dw_device, static_cast<Index>(w.size()));
  }
};

// How far a result is off: relative to the largest value, and to the bound.
struct Error {
  double relative = 0, of_bound = 0;
};

class Sample {
 public:
  // Elements of [rows, columns] that are looked at: the corners and some more.
  static std::vector<std::pair<Index, Index>> places(Index rows, Index columns, int count) {
    std::mt19937 random(3);
    std::vector<std::pair<Index, Index>> found = {{0, 0}, {rows - 1, columns - 1}};
    std::uniform_int_distribution<Index> row(0, rows - 1), column(0, columns - 1);
    for (int i = 0; i < count; ++i) found.emplace_back(row(random), column(random));
    return found;
  }

  void add(double got, const Exact& exact) {
    // A NaN is as far off as can be.
    const double error = std::isnan(got) ? INFINITY : std::fabs(got - exact.value);
    worst_ = std::max(worst_, error);
    of_bound_ = std::max(of_bound_, error / exact.bound);
    largest_ = std::max(largest_, std::fabs(exact.value));
  }

  Error error() const { return {worst_ / largest_, of_bound_}; }

 private:
  double worst_ = 0, of_bound_ = 0, largest_ = 0;
};

// What the results on the device are worth. Forward: relu and a bias; backward:
// dX and dW of linear outputs.
template <class S>
Error error_of(Problem<S>* p) {
  const Case& c = p->of;
  const double factor = c.tf32 ? checks::kTf32Roundoff : 0;
  const auto at = [](const std::vector<S>& items, Index i) {
    return static_cast<double>(host_numbers::widen(items[i]));
  };
  const int each = std::max<int>(4, 512 / static_cast<int>(c.rows.size()));
  Sample sample;
  std::vector<S> got;
  for (std::size_t i = 0; i < c.rows.size(); ++i) {
    Buffer<S>& result = c.backward ? p->dx_device[i] : p->y_device[i];
    if (!result.read(&got)) sample.add(NAN, {0, 1});  // wrote outside
    const Index columns = c.backward ? c.in_features : c.units;
    for (const auto& [row, column] : Sample::places(c.rows[i], columns, each)) {
      checks::Sum sum{factor};
      if (c.backward) {
        for (Index u = 0; u < c.units; ++u) {
          sum.add(at(p->w, column * c.units + u), {at(p->dy[i], row * c.units + u), 0});
        }
        sample.add(at(got, row * columns + column), sum.exact<S>());
      } else {
        checks::Matrix x{1, c.in_features, {}}, w{c.in_features, 1, {}};
        for (Index k = 0; k < c.in_features; ++k) {
          x.item.push_back(at(p->x[i], row * c.in_features + k));
          w.item.push_back(at(p->w, k * c.units + column));
        }
        const Exact z = checks::exact_z<S>(x, 0, w, false, {at(p->bias, column)}, 0, factor);
        sample.add(at(got, row * columns + column),
                   checks::exact_y<S>(checks::Activation::kRelu, z));
      }
    }
  }
  if (c.backward) {
    if (!p->dw_device.read(&got)) sample.add(NAN, {0, 1});
    for (const auto& [k, u] : Sample::places(c.in_features, c.units, 256)) {
      checks::Sum sum{factor};
      for (std::size_t i = 0; i < c.rows.size(); ++i) {
        for (Index row = 0; row < c.rows[i]; ++row) {
          sum.add(at(p->x[i], row * c.in_features + k), {at(p->dy[i], row * c.units + u), 0});
        }
      }
      sample.add(at(got, k * c.units + u), sum.exact<S>());
    }
  }
  return sample.error();
}

}  // namespace bench
