// The core without Python, to run where there is none (an emulator): over calls
// with awkward sizes, checks every output against the oracle and prints a hash
// of its bits, which tests/test_core_aarch64.py compares between machines.
//
//   bits        names the instruction sets it can take
//   bits ISA    runs on one
//
// Bounds as in tests/oracle.py: gamma(n) times the sum of absolute products.
// What the oracle makes of absolute values is such a sum, so it makes the
// bounds too.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/activation.h"
#include "core/isa/dispatch.h"
#include "core/reference.h"
#include "core/shared_matmul.h"
#include "python/std_threads.h"

using namespace shared_dense;

namespace {

template <class T>
using Arrays = std::vector<std::vector<T>>;

struct Case {
  const char* name;
  std::vector<Index> rows;  // per input
  Index in_features, units;
  std::vector<Activation> activations;  // dealt to the inputs in turn
  bool transposed = false;
  bool shared_bias = false;  // else one per input
  int threads = 1;
};

std::vector<Activation> all_activations() {
  std::vector<Activation> all;
  for (int i = 0; i < kActivationCount; ++i) all.push_back(static_cast<Activation>(i));
  return all;
}

std::vector<Case> cases() {
  constexpr Activation linear = Activation::kLinear, relu = Activation::kRelu;
  constexpr Activation gelu = Activation::kGelu, tanh = Activation::kTanh;
  return {
      {"one product", {1}, 1, 1, {linear}},
      {"one row, read in place", {1}, 401, 157, {relu}},
      {"one row, packed", {1}, 401, 157, {relu}, true},
      {"a few rows, read in place", {3, 0, 6}, 37, 211, {linear, relu, gelu}},
      {"few rows", {19, 21}, 64, 113, {relu, gelu}},
      {"many rows", {257, 0, 31, 1}, 67, 29, {linear, gelu, tanh, relu}},
      {"narrow", {301, 97}, 53, 5, {relu, linear}},
      {"narrow, transposed", {301, 97}, 53, 5, {gelu, linear}, true, true},
      {"narrow the other way", {301, 97}, 3, 61, {linear}, false, true},
      {"blocks of the reduction", {23, 18}, 2803, 31, {relu, linear}},
      {"blocks of the reduction, transposed", {23}, 31, 2803, {linear}, true},
      {"every activation", std::vector<Index>(10, 7), 17, 43, all_activations()},
      {"threads", {97, 300}, 181, 193, {relu}, true, false, 2},
      {"threads on a small kernel", {3000, 901}, 61, 64, {linear}, false, true, 3},
      {"no rows", {0, 0}, 13, 11, {relu}},
      {"no inputs", {}, 13, 11, {relu}},
      {"no features", {3, 2}, 0, 11, {gelu}},
      {"no units", {3, 2}, 13, 0, {relu}},
  };
}

// NaN bytes, so that whatever is read unwritten reaches the result.
class PoisonedScratch : public Scratch {
 public:
  void* allocate(std::size_t bytes) override {
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, bytes) != 0) return nullptr;
    std::memset(memory, 0xFF, bytes);
    blocks_.emplace_back(memory, &std::free);
    return memory;
  }

 private:
  std::vector<std::unique_ptr<void, void (*)(void*)>> blocks_;
};

// As many random bits as T holds, in [-1, 1) times `scale`, a power of two: the
// same everywhere, and all arithmetic on them rounds.
template <class T>
std::vector<T> numbers(Index count, std::uint64_t* state, T scale = 1) {
  std::vector<T> values(count);
  for (T& value : values) {
    std::uint64_t x = *state += 0x9E3779B97F4A7C15;  // splitmix64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    const int digits = std::numeric_limits<T>::digits;
    const auto bits = static_cast<std::int64_t>(x ^ (x >> 31)) >> (63 - digits);
    value = scale * std::ldexp(static_cast<T>(bits), -digits);
  }
  return values;
}

[[noreturn]] void fail(const Case& c, const std::string& what) {
  std::fprintf(stderr, "%s: %s\n", c.name, what.c_str());
  std::exit(1);
}

class Hash {  // FNV-1a
 public:
  template <class T>
  void add(const std::vector<T>& values) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
    for (std::size_t i = 0; i < values.size() * sizeof(T); ++i) {
      value_ = (value_ ^ bytes[i]) * 0x100000001B3;
    }
  }
  unsigned long long value() const { return value_; }

 private:
  std::uint64_t value_ = 0xCBF29CE484222325;
};

std::vector<double> absolute(std::vector<double> values) {
  for (double& value : values) value = std::abs(value);
  return values;
}

// A call with all its arrays, outputs full of NaN until written.
template <class T>
struct Call {
  const Case& c;
  Arrays<T> x, bias, dy, y, z, dx, dbias;
  std::vector<T> w, dw;

  explicit Call(const Case& of) : c(of), w(of.in_features * of.units), dw(w.size(), nan()) {
    for (const Index rows : c.rows) {
      x.emplace_back(rows * c.in_features);
      for (Arrays<T>* a : {&dy, &y, &z}) a->emplace_back(rows * c.units, nan());
      dx.emplace_back(rows * c.in_features, nan());
    }
    const std::size_t biases = c.shared_bias ? 1 : c.rows.size();
    bias.assign(biases, std::vector<T>(c.units));
    dbias.assign(biases, std::vector<T>(c.units, nan()));
  }
  static T nan() { return std::numeric_limits<T>::quiet_NaN(); }

  Activation activation(std::size_t i) const { return c.activations[i % c.activations.size()]; }
  Kernel<T> kernel() const { return {w.data(), c.in_features, c.units, c.transposed}; }
  const T* bias_of(std::size_t i) const { return bias[c.shared_bias ? 0 : i].data(); }

  std::vector<ForwardSegment<T>> forward_segments(bool all_linear = false) {
    std::vector<ForwardSegment<T>> segments;
    for (std::size_t i = 0; i < x.size(); ++i) {
      segments.push_back({c.rows[i], x[i].data(), y[i].data(), z[i].data(), bias_of(i),
                          all_linear ? Activation::kLinear : activation(i)});
    }
    return segments;
  }
  std::vector<BackwardSegment<T>> backward_segments(bool all_linear = false) {
    std::vector<BackwardSegment<T>> segments;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const Activation f = all_linear ? Activation::kLinear : activation(i);
      const T* saved = saved_for(f) == Saved::kPreActivation ? z[i].data() : y[i].data();
      segments.push_back({c.rows[i], x[i].data(), dy[i].data(), saved, dx[i].data(),
                          dbias[c.shared_bias ? 0 : i].data(), f});
    }
    return segments;
  }

  void reference(bool all_linear = false) {
    reference_forward(kernel(), forward_segments(all_linear));
    std::vector<const T*> biases;
    for (std::size_t i = 0; i < x.size(); ++i) biases.push_back(bias_of(i));
    reference_backward(kernel(), backward_segments(all_linear), biases, dw.data());
  }
};

template <class T>
void check(const Case& c, const char* what, const std::vector<T>& got,
           const std::vector<double>& exact, const std::vector<double>& bound) {
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(double{got[i]} - exact[i]);
    if (error <= bound[i]) continue;  // false for NaN
    fail(c, std::string(what) + "[" + std::to_string(i) + "] is " + std::to_string(got[i]) +
                ", exact " + std::to_string(exact[i]) + ", error " + std::to_string(error) +
                " above " + std::to_string(bound[i]));
  }
}

// All outputs of `call` against the oracle in float64.
template <class T>
void check(const Call<T>& call) {
  const Case& c = call.c;
  const auto wide = [](const std::vector<T>& v) { return std::vector<double>(v.begin(), v.end()); };
  Call<double> exact(c), size(c);
  exact.w = wide(call.w), size.w = absolute(exact.w);
  for (std::size_t i = 0; i < call.bias.size(); ++i) {
    exact.bias[i] = wide(call.bias[i]), size.bias[i] = absolute(exact.bias[i]);
  }
  for (std::size_t i = 0; i < call.x.size(); ++i) {
    exact.x[i] = wide(call.x[i]), size.x[i] = absolute(exact.x[i]);
    exact.dy[i] = wide(call.dy[i]);
  }
  exact.reference();
  Arrays<double> z(call.x.size());
  {
    Call<double> linear = exact;
    reference_forward(linear.kernel(), linear.forward_segments(true));
    z = linear.y;
  }
  reference_forward(size.kernel(), size.forward_segments(true));  // y: sums of absolute products

  // One rounding of the result and one of the oracle.
  const double u =
      0.5 * (std::numeric_limits<T>::epsilon() + std::numeric_limits<double>::epsilon());
  const auto gamma = [u](Index n) { return n * u / (1 - n * u); };
  Index rows = 0;
  for (const Index n : c.rows) rows += n;
  const double by_sum = gamma(std::max(rows, c.units) + 2);
  // Of every activation: the largest |f'| and |f''|, and the roundings of f or f' itself.
  constexpr double steepest = 1.13, curved = 1, own = 32;
  for (std::size_t i = 0; i < z.size(); ++i) {
    const Activation f = call.activation(i);
    std::vector<double> z_bound = size.y[i], y_bound = size.y[i];
    for (std::size_t j = 0; j < z[i].size(); ++j) {
      const double e = gamma(c.in_features + 2) * size.y[i][j], dy = std::abs(exact.dy[i][j]);
      const bool bends =
          f == Activation::kRelu || f == Activation::kRelu6 || f == Activation::kLeakyRelu;
      const double to_bend = std::min(std::abs(z[i][j]), std::abs(z[i][j] - 6));
      // Within its error z may be on either side of a kink.
      const double slope_error = bends && to_bend <= e ? 1 : curved * e;
      const double own_error = f == Activation::kLinear ? 0 : own * u * (1 + std::abs(z[i][j]) + e);
      const double dz_error = f == Activation::kLinear ? 0 : dy * (slope_error + own_error);
      z_bound[j] = e;
      y_bound[j] = steepest * e + own_error;
      // What dX, dW and db multiply and sum up: an error of dz as it is, dz itself times gamma.
      size.dy[i][j] = (1 + by_sum) * dz_error + by_sum * steepest * dy;
    }
    check(c, "z", call.z[i], z[i], z_bound);
    check(c, "y", call.y[i], exact.y[i], y_bound);
  }
  size.reference(true);
  for (std::size_t i = 0; i < z.size(); ++i) check(c, "dx", call.dx[i], exact.dx[i], size.dx[i]);
  check(c, "dw", call.dw, exact.dw, size.dw);
  for (std::size_t i = 0; i < call.dbias.size(); ++i) {
    check(c, "dbias", call.dbias[i], exact.dbias[i], size.dbias[i]);
  }
}

template <class T>
void run(const Case& c, const Isa& isa, const char* dtype) {
  Call<T> call(c);
  std::uint64_t state = 1;
  call.w = numbers<T>(call.w.size(), &state, std::ldexp(T(1), -std::ilogb(c.in_features + 1) / 2));
  for (std::vector<T>& bias : call.bias) bias = numbers<T>(bias.size(), &state);
  for (std::size_t i = 0; i < call.x.size(); ++i) {
    call.x[i] = numbers<T>(call.x[i].size(), &state, 2);
    call.dy[i] = numbers<T>(call.dy[i].size(), &state);
  }
  StdThreads threads(c.threads);
  PoisonedScratch scratch;
  const Context context{c.threads > 1 ? &threads : nullptr, &scratch, &isa};
  if (!forward(context, call.kernel(), call.forward_segments()) ||
      !backward(context, call.kernel(), call.backward_segments(), call.dw.data())) {
    fail(c, "no memory");
  }
  check(call);
  Hash hash;
  for (const Arrays<T>* arrays : {&call.y, &call.z, &call.dx, &call.dbias}) {
    for (const std::vector<T>& array : *arrays) hash.add(array);
  }
  hash.add(call.dw);
  std::printf("%016llx %s, %s\n", hash.value(), c.name, dtype);
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) {
    for (const std::string& name : supported_isas()) std::printf("%s\n", name.c_str());
    return 0;
  }
  const Isa* isa = find_isa(arguments[1]);
  if (isa == nullptr || !isa->supported()) {
    std::fprintf(stderr, "no such instruction set here: %s\n", arguments[1]);
    return 2;
  }
  for (const Case& c : cases()) {
    run<float>(c, *isa, "float32");
    run<double>(c, *isa, "float64");
  }
  return 0;
}
