// Compares the products of csrc/cuda with the oracle, and bits where they are
// promised: on a device, compiled by nvcc, or by a host compiler on host_shim.h.
// Arguments: dtypes, "<dtype>-large", or, of half types on a host, "<dtype>-sm90"
// and "<dtype>-sm90-large"; none: all. 0 when all is well.
#include <cstring>

#include "call.h"

namespace checks {
namespace {

using A = Activation;
const std::vector<Activation> kAll = {A::kLinear, A::kRelu,    A::kRelu6, A::kLeakyRelu,
                                      A::kElu,    A::kSigmoid, A::kTanh,  A::kSilu,
                                      A::kGelu,   A::kGeluTanh};

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
    add({"no feature", {3}, 0, 8, false, {A::kElu}});
    add({"no unit", {3}, 8, 0});
    add({"no row", {0, 0}, 8, 8, false, {A::kRelu}});
    add({"selective", {9, 4, 30, 1, 2, 8}, 48, 24, false, {A::kRelu, A::kLinear}, 2, 0, true});
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

template <class S>
void check_dtype(const std::string& dtype) {
  int count = 0;
  for (Case c : cases()) {
    c.name = dtype + ", " + c.name;
    const Numbers<S> n(c);
    check(c, n, run(c, n));
    ++count;
  }
  // Large enough for another tile than alone: Y of the one, dX of the other.
  check_bits<S>({dtype + ", bits", {3, 90, 16, 40, 700}, 24, 640, false, {A::kRelu, A::kLinear}});
  check_bits<S>({dtype + ", bits, transposed", {2, 800}, 600, 24, true, {A::kGelu}});
  check_left_out<S>({dtype + ", left out", {9, 4, 30}, 48, 24});
  std::printf("%s: %d cases, bits of 3 more\n", dtype.c_str(), count);
}

// The largest tile, which is for large results only.
template <class S>
void check_large(const std::string& dtype) {
  for (const bool transposed : {false, true}) {
    const Case c{dtype + ", large", {1000, 409}, 24, 1280, transposed, {A::kLinear}};
    const Numbers<S> n(c);
    check(c, n, run(c, n));
  }
  const Case c{dtype + ", large dw", {17, 3}, 1290, 1410};
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
  const auto wants = [&](const std::string& name) {
    bool named = count == 1;
    for (int i = 1; i < count; ++i) named |= name == names[i];
    return named;
  };
  const auto both = [&](const std::string& dtype, auto item) {
    using S = decltype(item);
    if (wants(dtype)) checks::check_dtype<S>(dtype);
    if (wants(dtype + "-large")) checks::check_large<S>(dtype);
#if !defined(__CUDACC__)
    if constexpr (sizeof(S) == 2) {
      checks::be_sm90(5);
      if (wants(dtype + "-sm90")) checks::check_dtype<S>(dtype + "-sm90");
      if (wants(dtype + "-sm90-large")) checks::check_large_sm90<S>(dtype + "-sm90");
      checks::be_sm90(0);
    }
#endif
  };
  both("float32", float{});
  both("float64", double{});
  both("bfloat16", shared_dense::BFloat16{});
  both("float16", shared_dense::Half{});
  std::printf(checks::failed() ? "FAILED\n" : "all checks passed\n");
  return checks::failed() ? 1 : 0;
}
