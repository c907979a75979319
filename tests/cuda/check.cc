// Compares the products of csrc/cuda with the oracle, and bits where they are
// promised: on a device, compiled by nvcc, or by a host compiler on host_shim.h.
// Arguments: dtypes, "<dtype>-large", or, of half types on a host, "<dtype>-sm90"
// and "<dtype>-sm90-large", or "<dtype>-small", a few cases; none: all but the
// last. "--sizes" first: lines of IN UNITS ROWS... on the standard input are the
// cases (tests/cuda/sizes.py has those of the CPU). 0 when all is well.
#include <cstring>
#include <iostream>
#include <sstream>

#include "call.h"

namespace checks {
namespace {

using A = Activation;
#define SHARED_DENSE_LISTED(id, name, saved) Activation::id,
const std::vector<Activation> kAll = {SHARED_DENSE_ACTIVATIONS(SHARED_DENSE_LISTED)};
#undef SHARED_DENSE_LISTED

std::vector<Case> cases() {
  const auto many = [](std::size_t n, Index rows) { return std::vector<Index>(n, rows); };
  std::vector<Case> list;
  for (const bool transposed : {false, true}) {
    const auto add = [&](Case c) {
      c.transposed = transposed;
      c.name += transposed ? ", transposed" : "";
      list.push_back(c);
    };
    add({"one row", {1}, 64, 32});
    add({"even", {16}, 64, 64, false, {A::kRelu}});
    add({"ragged", {5, 0, 1, 23, 64, 3}, 72, 40, false, kAll, 3});
    add({"odd", {7, 2, 31}, 37, 29, false, {A::kTanh, A::kSilu}, 2});
    add({"each activation", many(10, 2), 24, 16, false, kAll, 10});
    add({"off alignment", {5, 12, 4}, 72, 40, false, {A::kGelu}, 1, 1});
    add({"no bias, narrow", {40}, 33, 1, false, {A::kLinear}, 0});
    add({"one feature", {19, 1}, 1, 24, false, {A::kSigmoid}});
    add({"more inputs than one kernel brings", many(200, 1), 8, 8, false, {A::kRelu}, 100});
    add({"no feature", {3}, 0, 8, false, {A::kElu}});
    add({"no unit", {3}, 8, 0});
    add({"no row", {0, 0}, 8, 8, false, {A::kRelu}});
    Case selective{"selective", {9, 4, 30, 1, 2, 8}, 48, 24, false, {A::kRelu, A::kLinear}, 2};
    selective.selective = true;
    add(selective);
    add({"more inputs than parameters hold", many(70, 1), 24, 24, false, kAll, 70});
    add({"several panels", {70, 130, 9}, 136, 328, false, {A::kRelu, A::kGelu}, 2});
    add({"deep", {6, 20}, 600, 16, false, {A::kGeluTanh}});
    add({"many rows", {300, 301}, 24, 16, false, {A::kLeakyRelu}});
  }
  return list;
}

template <class S>
bool same(const std::vector<S>& a, const std::vector<S>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(S)) == 0);
}

// A row has the same bits alone and in company, on every path and alignment of
// rows (where W lies may choose other instructions);
// all results have the same bits when a call is repeated. One bias at most.
template <class S>
void check_bits(const Case& whole) {
  const Numbers<S> n(whole);
  const Results<S> r = run(whole, n), again = run(whole, n);
  if (!same(r.dw, again.dw)) fail(whole, "dw has other bits on repeat");
  if (!same(r.dbias[0], again.dbias[0])) fail(whole, "dbias has other bits on repeat");
  Case shifted = whole;
  shifted.shift = 1;
  shifted.aligned_kernel = true;
  const Results<S> off = run(shifted, n);
  if (!same(off.dw, r.dw)) fail(whole, "dw has other bits off alignment");
  for (std::size_t i = 0; i < whole.rows.size(); ++i) {
    if (!same(off.y[i], r.y[i])) fail(whole, "y has other bits off alignment");
    if (!same(off.dx[i], r.dx[i])) fail(whole, "dx has other bits off alignment");
    Case alone = whole;
    alone.rows = {whole.rows[i]};
    alone.activations = {activation_of(whole, i)};
    Numbers<S> own(alone);
    own.x = {n.x[i]};
    own.dy = {n.dy[i]};
    own.saved = {n.saved[i]};
    own.w = n.w;
    own.bias = n.bias;
    const Results<S> single = run(alone, own);
    if (!same(single.y[0], r.y[i])) fail(whole, "y has other bits alone");
    if (!same(single.dx[0], r.dx[i])) fail(whole, "dx has other bits alone");
  }
}

// An input that takes no part in dW does not show in it.
template <class S>
void check_left_out(Case c) {
  c.selective = true;
  Numbers<S> n(c);
  const Results<S> r = run(c, n);
  std::memset(n.x[2].data(), 0xFF, n.x[2].size() * sizeof(S));
  if (!same(run(c, n).dw, r.dw)) fail(c, "dw shows an input that does not train the kernel");
}

// Two inputs of as many rows, dY of one the negative of the other's: exactly 0.
template <class S>
void check_cancels(Case c) {
  for (const Index rows : {1, 7, 255, 256, 257, 300}) {
    c.rows = {rows, rows};
    Numbers<S> n(c);
    n.dy[1] = n.dy[0];
    for (S& v : n.dy[1]) {
      if constexpr (sizeof(S) == 2) {
        v.bits ^= 0x8000;
      } else {
        v = -v;
      }
    }
    const Results<S> r = run(c, n);
    for (const S& v : r.dbias[0]) {
      bool zero;
      if constexpr (sizeof(S) == 2) {
        zero = (v.bits & 0x7FFF) == 0;
      } else {
        zero = v == 0;
      }
      if (!zero) return fail(c, "dbias of what cancels is not 0");
    }
  }
}

// TensorFloat-32 is taken where it is allowed: each product has other bits.
void check_takes_tf32() {
  Case c{"tf32, taken", {40, 3}, 64, 48};
  const Numbers<float> n(c);
  const Results<float> exact = run(c, n);
  c.tf32 = true;
  const Results<float> rounded = run(c, n);
  if (same(exact.y[0], rounded.y[0])) fail(c, "y is of float32");
  if (same(exact.dx[0], rounded.dx[0])) fail(c, "dx is of float32");
  if (same(exact.dw, rounded.dw)) fail(c, "dw is of float32");
  if (!same(exact.dbias[0], rounded.dbias[0])) fail(c, "dbias is no product, and not of float32");
}

// A call says how each of its products runs.
template <class S>
void check_says(const std::string& dtype, bool tf32) {
  Case c{dtype + ", says", {2000, 48}, 40, 24};
  c.tf32 = tf32;
  const std::string said = run(c, Numbers<S>(c)).said;
  const auto line = [&](const std::string& product, const std::string& has) {
    const std::size_t from = said.find("  " + product + ": "), to = said.find('\n', from);
    const bool found = from != std::string::npos && to != std::string::npos &&
                       said.substr(from, to - from).find(has) != std::string::npos;
    if (!found) fail(c, "no '" + has + "' in the line '" + product + "' of " + said);
  };
  for (const char* product : {"forward", "input gradient", "kernel gradient"}) {
    line(product, tf32             ? "TensorFloat-32"
                  : sizeof(S) == 2 ? dtype.substr(0, dtype.find('-')) + " on tensor cores"
                                   : dtype + " multiply-adds");
  }
  line("kernel gradient", "sums over 256 rows each");
}

template <class S>
void check_dtype(const std::string& dtype, bool tf32) {
  int count = 0;
  for (Case c : cases()) {
    c.name = dtype + ", " + c.name;
    c.tf32 = tf32;
    const Numbers<S> n(c);
    check(c, n, run(c, n));
    ++count;
  }
  // Large enough for another tile than alone: Y of the one, dX of the other.
  Case bits{dtype + ", bits", {3, 90, 16, 40, 700}, 24, 640, false, {A::kRelu, A::kLinear}};
  Case turned{dtype + ", bits, transposed", {2, 800}, 600, 24, true, {A::kGelu}};
  bits.tf32 = turned.tf32 = tf32;
  check_bits<S>(bits);
  check_bits<S>(turned);
  check_left_out<S>({dtype + ", left out", {9, 4, 30}, 48, 24});
  check_cancels<S>({dtype + ", cancels", {}, 24, 40});
  check_says<S>(dtype, tf32);
  if (tf32) check_takes_tf32();
  std::printf("%s: %d cases, bits of 3 more\n", dtype.c_str(), count);
}

// Small, but of every kind: what a sanitizer can go through.
template <class S>
void check_small(const std::string& dtype, bool tf32) {
  int count = 0;
  for (Case c : cases()) {
    Index rows = 0;
    for (const Index r : c.rows) rows += r;
    if (rows > 130 || c.in_features > 100) continue;
    c.name = dtype + ", " + c.name;
    c.tf32 = tf32;
    const Numbers<S> n(c);
    check(c, n, run(c, n));
    ++count;
  }
  std::printf("%s: %d small cases\n", dtype.c_str(), count);
}

std::vector<Case> cases_of(std::istream* lines) {
  std::vector<Case> list;
  for (std::string line; std::getline(*lines, line);) {
    std::istringstream numbers(line);
    Case c{line, {}, 0, 0};
    numbers >> c.in_features >> c.units;
    for (Index rows = 0; numbers >> rows;) c.rows.push_back(rows);
    // Which activation and how many biases: as in tests/test_core.py.
    Index seed = 3 * c.in_features + 7 * c.units;
    for (const Index rows : c.rows) seed += rows;
    c.activations = {kAll[seed % kAll.size()]};
    c.biases = seed % 3 == 0 ? 0 : seed % 3 == 1 ? 1 : static_cast<int>(c.rows.size());
    for (const bool transposed : {false, true}) {
      c.transposed = transposed;
      list.push_back(c);
    }
  }
  return list;
}

template <class S>
void check_sizes(const std::string& dtype, bool tf32, const std::vector<Case>& given) {
  for (Case c : given) {
    c.name = dtype + ", sizes " + c.name + (c.transposed ? ", transposed" : "");
    c.tf32 = tf32;
    const Numbers<S> n(c);
    check(c, n, run(c, n));
  }
  std::printf("%s: %zu cases of the CPU's sizes\n", dtype.c_str(), given.size());
}

// The largest tile, which is for large results only.
template <class S>
void check_large(const std::string& dtype, bool tf32) {
  for (const bool transposed : {false, true}) {
    Case c{dtype + ", large", {1000, 409}, 24, 1280, transposed, {A::kLinear}};
    c.tf32 = tf32;
    const Numbers<S> n(c);
    check(c, n, run(c, n));
  }
  Case c{dtype + ", large dw", {17, 3}, 1290, 1410};
  c.tf32 = tf32;
  const Numbers<S> n(c);
  check(c, n, run(c, n));
  std::printf("%s: 3 large cases\n", dtype.c_str());
}

// The largest tiles of wgmma: pairs of blocks, and those of dW.
template <class S>
void check_large_sm90(const std::string& dtype) {
  for (const bool transposed : {false, true}) {
    const Case c{dtype + ", large", {100, 36}, 24, 16896, transposed, {A::kRelu}};
    const Numbers<S> n(c);
    check(c, n, run(c, n));
  }
  const Case c{dtype + ", large dw", {50, 18}, 136, 16896};
  const Numbers<S> n(c);
  check(c, n, run(c, n));
  std::printf("%s: 3 large cases\n", dtype.c_str());
}

}  // namespace
}  // namespace checks

int main(int count, char** names) {
  const bool sizes = count > 1 && std::string(names[1]) == "--sizes";
  const std::vector<std::string> named(names + (sizes ? 2 : 1), names + count);
  const auto wants = [&](const std::string& name, bool unasked) {
    return named.empty() ? unasked : std::find(named.begin(), named.end(), name) != named.end();
  };
  const std::vector<checks::Case> given =
      sizes ? checks::cases_of(&std::cin) : std::vector<checks::Case>{};
  const auto all_of = [&](const std::string& dtype, auto item, bool tf32 = false) {
    using S = decltype(item);
    if (sizes) {
      if (wants(dtype, true)) checks::check_sizes<S>(dtype, tf32, given);
      return;
    }
    if (wants(dtype, true)) checks::check_dtype<S>(dtype, tf32);
    if (wants(dtype + "-large", true)) checks::check_large<S>(dtype, tf32);
    if (wants(dtype + "-small", false)) checks::check_small<S>(dtype, tf32);
#if !defined(__CUDACC__)
    if constexpr (sizeof(S) == 2) {
      checks::be_sm90(5);
      if (wants(dtype + "-sm90", true)) checks::check_dtype<S>(dtype + "-sm90", false);
      if (wants(dtype + "-sm90-large", true)) checks::check_large_sm90<S>(dtype + "-sm90");
      checks::be_sm90(0);
    }
#endif
  };
  all_of("float32", float{});
  all_of("tf32", float{}, true);
  all_of("float64", double{});
  all_of("bfloat16", shared_dense::BFloat16{});
  all_of("float16", shared_dense::Half{});
  std::printf(checks::failed() ? "FAILED\n" : "all checks passed\n");
  return checks::failed() ? 1 : 0;
}
