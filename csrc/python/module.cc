// shared_dense._core: the core over NumPy arrays, without TensorFlow. Tests,
// benches and status() use it; it checks shapes because Python calls it.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "core/activation.h"
#include "core/explain.h"
#include "core/plan.h"
#include "core/reference.h"
#include "core/shared_matmul.h"
#include "python/std_threads.h"
#include "python/timing.h"

namespace py = pybind11;

namespace pybind11::detail {

// NumPy has binary16; of bfloat16 it gets the bits.
template <>
struct npy_format_descriptor<shared_dense::Half> {
  static constexpr auto name = const_name("float16");
  static pybind11::dtype dtype() { return pybind11::dtype("float16"); }
};
template <>
struct npy_format_descriptor<shared_dense::BFloat16> {
  static constexpr auto name = const_name("uint16");
  static pybind11::dtype dtype() { return pybind11::dtype("uint16"); }
};

}  // namespace pybind11::detail

namespace shared_dense {
namespace {

// The oracle is there for the types that C++ can compute in.
template <class S>
constexpr bool kHasReference = std::is_same_v<S, Accumulator<S>>;

template <class T>
using Array = py::array_t<T, py::array::c_style>;

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

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument(message); }

template <class T>
Array<T> poisoned(std::vector<py::ssize_t> shape) {
  Array<T> array(std::move(shape));
  // All bits set: a NaN in every format.
  std::memset(array.mutable_data(), 0xFF, array.nbytes());
  return array;
}

template <class T>
Kernel<T> kernel_of(const Array<T>& w, bool transposed) {
  if (w.ndim() != 2) fail("kernel must have rank 2");
  return {w.data(), w.shape(transposed ? 1 : 0), w.shape(transposed ? 0 : 1), transposed};
}

template <class T>
Index rows_of(const Array<T>& x, Index columns, const char* name) {
  if (x.ndim() != 2 || x.shape(1) != columns) {
    fail(std::string(name) + " must have rank 2 and " + std::to_string(columns) + " columns");
  }
  return x.shape(0);
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
std::vector<const T*> biases_of(const std::vector<Array<T>>& biases,
                                const std::vector<int>& bias_of, std::size_t n, Index units) {
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

const Isa* isa_of(const std::string& name) {
  if (name.empty()) {
    if (active_isa() == nullptr) fail(isa_error());
    return active_isa();
  }
  const Isa* isa = find_isa(name);
  if (isa == nullptr || !isa->supported()) fail("no such instruction set here: " + name);
  return isa;
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
py::tuple py_forward(const std::vector<Array<T>>& xs, const Array<T>& w,
                     const std::vector<Array<T>>& biases, const std::vector<std::string>& names,
                     bool transposed, bool keep, int threads, const std::string& isa,
                     bool reference, const std::vector<int>& bias_of) {
  if (reference && !kHasReference<T>) fail("no oracle in this dtype");
  const Kernel<T> kernel = kernel_of(w, transposed);
  const auto activations = activations_of(names, xs.size());
  const auto bias = biases_of(biases, bias_of, xs.size(), kernel.units);
  std::vector<Array<T>> ys, zs;
  std::vector<ForwardSegment<T>> segments;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const Index rows = rows_of(xs[i], kernel.in_features, "x");
    ys.push_back(poisoned<T>({rows, kernel.units}));
    if (keep) zs.push_back(poisoned<T>({rows, kernel.units}));
    segments.push_back({rows, xs[i].data(), ys[i].mutable_data(),
                        keep ? zs[i].mutable_data() : nullptr, bias[i], activations[i]});
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
py::dict py_backward(const std::vector<Array<T>>& xs, const std::vector<Array<T>>& dys,
                     const std::vector<Array<T>>& saved, const Array<T>& w,
                     const std::vector<Array<T>>& biases, const std::vector<std::string>& names,
                     bool transposed, const std::vector<bool>& wants_dx, bool wants_dkernel,
                     int dbias_count, int threads, const std::string& isa, bool reference,
                     const std::vector<int>& bias_of, const std::vector<bool>& trains_kernel) {
  if (reference && !kHasReference<T>) fail("no oracle in this dtype");
  const Kernel<T> kernel = kernel_of(w, transposed);
  const std::size_t n = xs.size();
  const auto activations = activations_of(names, n);
  const auto bias = biases_of(biases, bias_of, n, kernel.units);
  if (dys.size() != n || wants_dx.size() != n) fail("one dy and one wants_dx per input");
  if (!reference && saved.size() != n) fail("one saved value per input");
  if (dbias_count < 0) fail("dbias_count must be at least 0");
  const auto dbias_of =
      bias_of_each(dbias_count == 0 ? std::vector<int>{} : bias_of, dbias_count, n);
  if (!trains_kernel.empty() && trains_kernel.size() != n) fail("one trains_kernel per input");
  std::vector<Array<T>> dxs, dbs;
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

// Threads that are asked and never come.
class AbsentThreads : public ThreadPool {
 public:
  explicit AbsentThreads(int threads) : threads_(threads) {}
  int threads() const override { return threads_; }
  bool awake() const override { return true; }
  void schedule(std::function<void()> task) override { (void)task; }

 private:
  const int threads_;
};

std::vector<std::pair<int, Index>> stages_alone(const std::vector<Index>& items, int threads) {
  AbsentThreads absent(threads);
  std::vector<std::pair<int, Index>> done;
  parallel_stages(&absent, items,
                  [&](int stage, Index item, int) { done.emplace_back(stage, item); });
  return done;
}

template <class S>
std::string explain_as(const CallShape& shape, const Workers& workers) {
  const Isa& isa = *isa_of("");
  return explain_forward<S>(isa, workers, shape) + "\n" +
         explain_input_gradient<S>(isa, workers, shape) + "\n" +
         explain_kernel_gradient<S>(isa, workers, shape);
}

std::string py_explain(const std::vector<Index>& rows, Index in_features, Index units,
                       bool transposed, const std::string& dtype, int threads, bool awake) {
  if (threads < 1) fail("threads must be at least 1");
  const CallShape shape{rows, in_features, units, transposed};
  const Workers workers{threads, awake ? kAwakeWork : kAsleepWork};
  if (dtype == "float32") return explain_as<float>(shape, workers);
  if (dtype == "float64") return explain_as<double>(shape, workers);
  if (dtype == "bfloat16") return explain_as<BFloat16>(shape, workers);
  if (dtype == "float16") return explain_as<Half>(shape, workers);
  fail("no kernels for dtype " + dtype);
}

template <class T>
void define(py::module_& m) {
  using namespace pybind11::literals;
  m.def("forward", &py_forward<T>, "xs"_a.noconvert(), "kernel"_a.noconvert(),
        "biases"_a.noconvert() = std::vector<Array<T>>{},
        "activations"_a = std::vector<std::string>{"linear"}, "transpose_kernel"_a = false,
        "keep"_a = false, "threads"_a = 1, "isa"_a = "", "reference"_a = false,
        "bias_of"_a = std::vector<int>{},
        "(ys, pre_activations) of arrays [rows, in_features] of float32, float64, float16, or "
        "uint16 for the bits of bfloat16; `reference` runs the float64 oracle instead (float32 and "
        "float64 only).");
  m.def("backward", &py_backward<T>, "xs"_a.noconvert(), "dys"_a.noconvert(), "saved"_a.noconvert(),
        "kernel"_a.noconvert(), "biases"_a.noconvert() = std::vector<Array<T>>{},
        "activations"_a = std::vector<std::string>{"linear"}, "transpose_kernel"_a = false,
        "wants_dx"_a, "wants_dkernel"_a = true, "dbias_count"_a = 0, "threads"_a = 1, "isa"_a = "",
        "reference"_a = false, "bias_of"_a = std::vector<int>{},
        "trains_kernel"_a = std::vector<bool>{},
        "dict of dx (those wanted), dkernel and dbias (NaN where no input uses it); `saved` holds "
        "y or z per input as the activation needs.");
}

}  // namespace
}  // namespace shared_dense

PYBIND11_MODULE(_core, m) {
  using namespace shared_dense;
  using namespace pybind11::literals;
  m.doc() = "The shared-dense CPU core over NumPy arrays.";
  define<float>(m);
  define<double>(m);
  define<Half>(m);
  define<BFloat16>(m);
  define_timing(m);
  m.def(
      "isa",
      []() -> std::string {
        if (active_isa() == nullptr) fail(isa_error());
        return active_isa()->name;
      },
      "The instruction set in use; ValueError when SHARED_DENSE_ISA names none that runs here.");
  m.def("built_isas", &built_isas,
        "Instruction sets of this build: best first, after generic those for tests.");
  m.def("supported_isas", &supported_isas, "Those that this processor runs.");
  m.def(
      "activations",
      [] {
        std::vector<std::string> names;
        for (int i = 0; i < kActivationCount; ++i) {
          names.emplace_back(activation_name(static_cast<Activation>(i)));
        }
        return names;
      },
      "Names of the activations.");
  m.def("explain", &py_explain, "rows"_a, "in_features"_a, "units"_a, "transpose_kernel"_a = false,
        "dtype"_a = "float32", "threads"_a = 1, "awake"_a = false,
        "What the plan makes of a call: a line for each of its three products.");
  m.def(
      "caches", [] { return py::make_tuple(caches().l1, caches().l2); },
      "Bytes of L1 data cache and of L2 of one core, as the plans take them.");
  m.attr("row_chunk") = kRowChunk;
  m.def("stages_alone", &stages_alone, "items"_a, "threads"_a,
        "(stage, item) in the order in which a caller does them whose helpers never start.");
  m.def("plan_rows",
        [](Index rows, Index depth, Index columns, Index segment_rows, bool transposed, int mr,
           int nr, int lanes, int item_bytes, Index l1, Index l2, int threads, Index worth) {
          const RowsPlan p = plan_rows({rows, depth, columns, segment_rows, transposed},
                                       {{mr, nr, lanes, item_bytes}, {l1, l2}, {threads, worth}});
          return py::dict("path"_a = rows_path_name(p.path), "depth"_a = p.depth,
                          "row_block"_a = p.row_block, "column_block"_a = p.column_block,
                          "column_chunk"_a = p.column_chunk, "keeps_b"_a = p.keeps_b,
                          "depth_first"_a = p.depth_first, "own_copies"_a = p.own_copies,
                          "parallel"_a = p.parallel);
        });
  m.def("plan_sum", [](Index rows, Index reduction, Index columns, int mr, int nr, int lanes,
                       int item_bytes, Index l1, Index l2, int threads, Index worth) {
    const SumPlan p = plan_sum({rows, reduction, columns},
                               {{mr, nr, lanes, item_bytes}, {l1, l2}, {threads, worth}});
    return py::dict("batch"_a = p.batch, "row_block"_a = p.row_block,
                    "column_block"_a = p.column_block, "streams"_a = p.streams,
                    "parallel"_a = p.parallel);
  });
}
