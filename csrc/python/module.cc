// shared_dense._core: the core over NumPy arrays, without TensorFlow. Tests,
// benches and status() use it. Here: what the core says about itself.
#include "python/module.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/activation.h"
#include "core/explain.h"
#include "core/plan.h"
#include "python/arrays.h"

namespace shared_dense {
namespace {

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

const char* saved_name(Saved saved) {
  switch (saved) {
    case Saved::kNothing: return "nothing";
    case Saved::kOutput: return "output";
    case Saved::kPreActivation: return "pre_activation";
  }
  return nullptr;
}

py::dict activations_and_what_they_save() {
  py::dict all;
  for (int i = 0; i < kActivationCount; ++i) {
    const auto activation = static_cast<Activation>(i);
    all[activation_name(activation)] = saved_name(saved_for(activation));
  }
  return all;
}

template <class S>
std::string explain_as(const CallShape& shape, const Workers& workers) {
  const Isa& isa = *isa_of("");
  return explain_forward<S>(isa, workers, shape) + "\n" +
         explain_input_gradient<S>(isa, workers, shape) + "\n" +
         explain_kernel_gradient<S>(isa, workers, shape);
}

std::string py_explain(const std::vector<Index>& rows, Index in_features, Index units,
                       bool transpose_kernel, const std::string& dtype, int threads, bool awake) {
  if (threads < 1) fail("threads must be at least 1");
  const CallShape shape{rows, in_features, units, transpose_kernel};
  const Workers workers{threads, awake ? kAwakeWork : kAsleepWork};
  if (dtype == "float32") return explain_as<float>(shape, workers);
  if (dtype == "float64") return explain_as<double>(shape, workers);
  if (dtype == "bfloat16") return explain_as<BFloat16>(shape, workers);
  if (dtype == "float16") return explain_as<Half>(shape, workers);
  fail("no kernels for dtype " + dtype);
}

}  // namespace
}  // namespace shared_dense

PYBIND11_MODULE(_core, m) {
  using namespace shared_dense;
  using namespace pybind11::literals;
  m.doc() = "The shared-dense CPU core over NumPy arrays.";
  define_products(m);
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
  m.def("activations", &activations_and_what_they_save,
        "By name, in the order of the op's numbers, what the gradient of an activation reads: "
        "'nothing', 'output' or 'pre_activation'.");
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
