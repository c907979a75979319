// Calls products of the core, one at a time, for callgrind to count their
// instructions. bench/instructions.py compiles and runs it.
//
//   instructions CALLS [TEXT]
//
// CALLS is how often each product is made, and TEXT what the names of those
// wanted hold. Every count is dumped under its name; to stdout go what the counts
// depend on besides compiler and sources, the instruction sets and the sizes of
// caches that valgrind pretends to have.
#include <valgrind/callgrind.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "core/isa/dispatch.h"
#include "core/plan.h"
#include "core/shared_matmul.h"

namespace shared_dense {
namespace {

constexpr std::size_t kAlignment = 64;  // loops that begin at a whole vector always do

struct Case {
  const char* name;
  std::vector<Index> rows;  // of each input
  Index in_features, units;
  Activation activation;
};

// Small, as an instruction costs some 50 times its time here; each takes another
// way through the core (plan.h).
const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"8 x 1 rows, 512 -> 256, relu", std::vector<Index>(8, 1), 512, 256, Activation::kRelu},
      {"8 x 8 rows, 256 -> 128, gelu", std::vector<Index>(8, 8), 256, 128, Activation::kGelu},
      {"2 x 128 rows, 300 -> 100, relu", {128, 128}, 300, 100, Activation::kRelu},
      {"[200, 100, 50] rows, 256 -> 3", {200, 100, 50}, 256, 3, Activation::kLinear},
  };
  return all;
}

template <class T>
const char* name_of() {
  if (std::is_same_v<T, double>) return "float64";
  return std::is_same_v<T, float> ? "float32" : "bfloat16";
}

void* aligned(std::size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, bytes + 1) != 0) std::abort();
  std::memset(memory, 0, bytes);
  return memory;
}

// Aligned items; drawn from [-0.5, 0.5) on request.
template <class T>
class Array {
 public:
  explicit Array(Index items, bool draws = false)
      : data_(static_cast<T*>(aligned(items * sizeof(T)))) {
    std::uint32_t state = 12345;  // Numerical Recipes' linear congruential generator
    for (Index i = 0; draws && i < items; ++i) {
      state = state * 1664525u + 1013904223u;
      const float value = static_cast<float>(state >> 8) / (1 << 24) - 0.5f;
      if constexpr (std::is_same_v<T, BFloat16>) {
        std::uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        data_[i].bits = static_cast<std::uint16_t>(bits >> 16);
      } else {
        data_[i] = value;
      }
    }
  }
  Array(Array&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
  ~Array() { std::free(data_); }

  T* data() { return data_; }

 private:
  T* data_;
};

// One piece of memory, had before anything is counted: what the system's
// allocator does for large pieces is not the core's.
class Arena : public Scratch {
 public:
  void* allocate(std::size_t bytes) override {
    char* here = memory_.data() + used_;
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return used_ <= kBytes ? here : nullptr;
  }
  void reset() { used_ = 0; }

 private:
  static constexpr std::size_t kBytes = std::size_t{64} << 20;
  Array<char> memory_{static_cast<Index>(kBytes)};
  std::size_t used_ = 0;
};

class Counter {
 public:
  Counter(int calls, std::string text) : calls_(calls), text_(std::move(text)) {}

  template <class Product>
  void count(const std::string& name, const Product& product) {
    if (name.find(text_) == std::string::npos) return;
    CALLGRIND_ZERO_STATS;
    CALLGRIND_TOGGLE_COLLECT;
    for (int call = 0; call < calls_; ++call) {
      scratch.reset();
      if (!product()) std::abort();
    }
    CALLGRIND_TOGGLE_COLLECT;
    CALLGRIND_DUMP_STATS_AT(name.c_str());
  }

  Arena scratch;

 private:
  int calls_;
  std::string text_;
};

template <class T>
void count_case(Counter& counter, const Isa& isa, const Case& c) {
  const Context context{nullptr, &counter.scratch, &isa};
  Array<T> w(c.in_features * c.units, true), bias(c.units, true);
  Array<T> dw(c.in_features * c.units), dbias(c.units);
  std::vector<Array<T>> arrays;
  const auto array = [&](Index items, bool draws) {
    return arrays.emplace_back(items, draws).data();
  };
  std::vector<ForwardSegment<T>> forwards;
  std::vector<BackwardSegment<T>> inputs, weights;
  for (const Index rows : c.rows) {
    const Index in = rows * c.in_features, out = rows * c.units;
    const T* x = array(in, true);
    const T* dy = array(out, true);
    T* z = saved_for(c.activation) == Saved::kPreActivation ? array(out, false) : nullptr;
    T* y = array(out, false);
    forwards.push_back({rows, x, y, z, bias.data(), c.activation});
    const T* saved = z != nullptr ? z : y;
    inputs.push_back({rows, x, dy, saved, array(in, false), nullptr, c.activation});
    weights.push_back({rows, x, dy, saved, nullptr, dbias.data(), c.activation});
  }
  const Kernel<T> kernel{w.data(), c.in_features, c.units, false};
  const std::string start = std::string(isa.name) + " " + name_of<T>() + " ", end = c.name;
  counter.count(start + "forward, " + end, [&] { return forward(context, kernel, forwards); });
  T* const none = nullptr;
  counter.count(start + "dX, " + end, [&] { return backward(context, kernel, inputs, none); });
  counter.count(start + "dW, " + end,
                [&] { return backward(context, kernel, weights, dw.data()); });
}

}  // namespace
}  // namespace shared_dense

int main(int argc, char** argv) {
  using namespace shared_dense;
  const int calls = argc > 1 ? std::atoi(argv[1]) : 0;
  if (calls < 1) {
    std::fprintf(stderr, "usage: instructions CALLS [TEXT]\n");
    return 2;
  }
  const Caches found = caches();  // kept by the core: found before anything is counted
  Counter counter(calls, argc > 2 ? argv[2] : "");
  std::string isas;
  for (const std::string& name : supported_isas()) {
    isas += (isas.empty() ? "" : ", ") + name;
    for (const Case& c : cases()) {
      count_case<float>(counter, *find_isa(name), c);
      count_case<BFloat16>(counter, *find_isa(name), c);
      count_case<double>(counter, *find_isa(name), c);
    }
  }
  std::printf("{\"isas\": \"%s\", \"caches\": \"%lld + %lld bytes\"}\n", isas.c_str(),
              static_cast<long long>(found.l1), static_cast<long long>(found.l2));
  return 0;
}
