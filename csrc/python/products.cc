// forward() and backward(): the products over NumPy's arrays. They check shapes,
// because Python calls them.
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/activation.h"
#include "core/reference.h"
#include "core/shared_matmul.h"
#include "python/arrays.h"
#include "python/module.h"
#include "python/std_threads.h"

namespace shared_dense {
namespace {

// The oracle is there for the types that C++ can compute in.
template <class S>
constexpr bool kHasReference = std::is_same_v<S, Accumulator<S>>;

// Scratch full of NaN bytes, so that a test sees whatever is read unwritten.
class PoisonedScratch : public Scratch {
 public:
  void* allocate(std::size_t bytes) override {
    // Not a byte more than asked for: a sanitizer then sees every overrun.
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, bytes) != 0) return nullptr;
    std::memset(memory, 0xFF, bytes);
    blocks_.emplace_back(memory, &std::free);
    return memory;
  }

 private:
  std::vector<std::unique_ptr<void, void (*)(void*)>> blocks_;
};

template <class T>
Array<T> poisoned(std::vector<py::ssize_t> shape) {
  Array<T> array(std::move(shape));
  // All bits set: a NaN in every format.
  std::memset(array.mutable_data(), 0xFF, array.nbytes());
  return array;
}

std::vector<Activation> activations_of(const std::vector<std::string>& names, std::size_t n) {
  if (names.size() != 1 && names.size() != n) fail("one activation, or one per input");
  std::vector<Activation> activations(n);
  for (std::size_t i = 0; i < n; ++i) {
    const std::string& name = names[names.size() == 1 ? 0 : i];
    if (!activation_from_name(name, &activations[i])) fail("unknown activation " + name);
  }
  return activations;
}

// Which of `count` biases (or bias gradients) each input uses, as the op says
// it: -1 is none, and nothing said means none, one for all, or one per input.
std::vector<int> bias_of_each(const std::vector<int>& bias_of, std::size_t count, std::size_t n) {
  if (bias_of.empty()) {
    if (count > 1 && count != n) fail("no bias, one, or one per input");
    std::vector<int> each(n, count == 0 ? -1 : 0);
    for (std::size_t i = 0; i < n && count > 1; ++i) each[i] = static_cast<int>(i);
    return each;
  }
  if (bias_of.size() != n) fail("bias_of must hold one index per input");
  for (const int index : bias_of) {
    if (index < -1 || index >= static_cast<int>(count)) fail("bias_of names a bias that is not");
  }
  return bias_of;
}

template <class T>
std::vector<const T*> biases_of(const Arrays<T>& biases, const std::vector<int>& bias_of,
                                std::size_t n, Index units) {
  for (const Array<T>& bias : biases) {
    if (bias.ndim() != 1 || bias.shape(0) != units) fail("bias must have shape [units]");
  }
  std::vector<const T*> pointers;
  for (const int index :
       bias_of_each(biases.empty() ? std::vector<int>{} : bias_of, biases.size(), n)) {
    pointers.push_back(index < 0 ? nullptr : biases[index].data());
  }
  return pointers;
}

// One pool per thread count, never torn down: joining threads while the
// interpreter unloads is a deadlock waiting to happen.
ThreadPool* pool_of(int threads) {
  static std::map<int, StdThreads*> pools;  // guarded by the GIL
  if (threads <= 1) return nullptr;
  StdThreads*& pool = pools[threads];
  if (pool == nullptr) pool = new StdThreads(threads);
  return pool;
}

template <class T>
py::tuple py_forward(const Arrays<T>& xs, const Array<T>& w, const Arrays<T>& biases,
                     const std::vector<std::string>& names, bool transpose_kernel,
                     bool pre_activations, int threads, const std::string& isa, bool reference,
                     const std::vector<int>& bias_of) {
  if (reference && !kHasReference<T>) fail("no oracle in this dtype");
  const Kernel<T> kernel = kernel_of(w, transpose_kernel);
  const auto activations = activations_of(names, xs.size());
  const auto bias = biases_of(biases, bias_of, xs.size(), kernel.units);
  Arrays<T> ys, zs;
  std::vector<ForwardSegment<T>> segments;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const Index rows = rows_of(xs[i], kernel.in_features, "x");
    ys.push_back(poisoned<T>({rows, kernel.units}));
    if (pre_activations) zs.push_back(poisoned<T>({rows, kernel.units}));
    segments.push_back({rows, xs[i].data(), ys[i].mutable_data(),
                        pre_activations ? zs[i].mutable_data() : nullptr, bias[i], activations[i]});
  }
  PoisonedScratch scratch;
  const Context context{pool_of(threads), &scratch, isa_of(isa)};
  bool ok = true;
  {
    const py::gil_scoped_release release;
    if (reference) {
      if constexpr (kHasReference<T>) reference_forward(kernel, segments);
    } else {
      ok = forward(context, kernel, segments);
    }
  }
  if (!ok) throw std::bad_alloc();
  return py::make_tuple(ys, zs);
}

template <class T>
py::dict py_backward(const Arrays<T>& xs, const Arrays<T>& dys, const Arrays<T>& saved,
                     const Array<T>& w, const Arrays<T>& biases,
                     const std::vector<std::string>& names, bool transpose_kernel,
                     const std::vector<bool>& wants_dx, bool wants_dkernel, int dbias_count,
                     int threads, const std::string& isa, bool reference,
                     const std::vector<int>& bias_of, const std::vector<bool>& trains_kernel) {
  if (reference && !kHasReference<T>) fail("no oracle in this dtype");
  const Kernel<T> kernel = kernel_of(w, transpose_kernel);
  const std::size_t n = xs.size();
  const auto activations = activations_of(names, n);
  const auto bias = biases_of(biases, bias_of, n, kernel.units);
  if (dys.size() != n || wants_dx.size() != n) fail("one dy and one wants_dx per input");
  if (!reference && saved.size() != n) fail("one saved value per input");
  if (dbias_count < 0) fail("dbias_count must be at least 0");
  const auto dbias_of =
      bias_of_each(dbias_count == 0 ? std::vector<int>{} : bias_of, dbias_count, n);
  if (!trains_kernel.empty() && trains_kernel.size() != n) fail("one trains_kernel per input");
  Arrays<T> dxs, dbs;
  for (int i = 0; i < dbias_count; ++i) dbs.push_back(poisoned<T>({kernel.units}));
  Array<T> dw = poisoned<T>({w.shape(0), w.shape(1)});
  std::vector<BackwardSegment<T>> segments;
  for (std::size_t i = 0; i < n; ++i) {
    const Index rows = rows_of(xs[i], kernel.in_features, "x");
    if (rows_of(dys[i], kernel.units, "dy") != rows) fail("dy must have the rows of x");
    if (!reference && rows_of(saved[i], kernel.units, "saved") != rows) {
      fail("saved must have the rows of x");
    }
    T* dx = nullptr;
    if (wants_dx[i]) {
      dxs.push_back(poisoned<T>({rows, kernel.in_features}));
      dx = dxs.back().mutable_data();
    }
    segments.push_back({rows, xs[i].data(), dys[i].data(), reference ? nullptr : saved[i].data(),
                        dx, dbias_of[i] < 0 ? nullptr : dbs[dbias_of[i]].mutable_data(),
                        activations[i], trains_kernel.empty() || trains_kernel[i]});
  }
  T* const dkernel = wants_dkernel ? dw.mutable_data() : nullptr;
  PoisonedScratch scratch;
  const Context context{pool_of(threads), &scratch, isa_of(isa)};
  bool ok = true;
  {
    const py::gil_scoped_release release;
    if (reference) {
      if constexpr (kHasReference<T>) reference_backward(kernel, segments, bias, dkernel);
    } else {
      ok = backward(context, kernel, segments, dkernel);
    }
  }
  if (!ok) throw std::bad_alloc();
  py::dict result;
  result["dx"] = dxs;
  result["dkernel"] = wants_dkernel ? py::object(dw) : py::none();
  result["dbias"] = dbs;
  return result;
}

template <class T>
void define(py::module_& m) {
  using namespace pybind11::literals;
  m.def("forward", &py_forward<T>, "xs"_a.noconvert(), "kernel"_a.noconvert(),
        "biases"_a.noconvert() = Arrays<T>{}, "activations"_a = std::vector<std::string>{"linear"},
        "transpose_kernel"_a = false, "pre_activations"_a = false, "threads"_a = 1, "isa"_a = "",
        "reference"_a = false, "bias_of"_a = std::vector<int>{},
        "(ys, pre_activations) of arrays [rows, in_features] of float32, float64, float16, or "
        "uint16 for the bits of bfloat16; `reference` runs the float64 oracle instead (float32 and "
        "float64 only).");
  m.def("backward", &py_backward<T>, "xs"_a.noconvert(), "dys"_a.noconvert(), "saved"_a.noconvert(),
        "kernel"_a.noconvert(), "biases"_a.noconvert() = Arrays<T>{},
        "activations"_a = std::vector<std::string>{"linear"}, "transpose_kernel"_a = false,
        "wants_dx"_a, "wants_dkernel"_a = true, "dbias_count"_a = 0, "threads"_a = 1, "isa"_a = "",
        "reference"_a = false, "bias_of"_a = std::vector<int>{},
        "trains_kernel"_a = std::vector<bool>{},
        "dict of dx (those wanted), dkernel and dbias (NaN where no input uses it); `saved` holds "
        "y or z per input as the activation needs.");
}

}  // namespace

void define_products(py::module_& m) {
  define<float>(m);
  define<double>(m);
  define<Half>(m);
  define<BFloat16>(m);
}

}  // namespace shared_dense
