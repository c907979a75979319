// Timing of the core without Python, TensorFlow or fresh memory in the time.
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "core/shared_matmul.h"
#include "python/arrays.h"
#include "python/module.h"
#include "python/spinning_threads.h"

namespace shared_dense {
namespace {

// Keeps its memory from call to call, as the allocator of a framework does: fresh pages, which the
// system has to clear, would be a good part of the time.
class KeptScratch : public Scratch {
 public:
  void* allocate(std::size_t bytes) override {
    if (next_ == blocks_.size()) blocks_.emplace_back();
    Block& block = blocks_[next_++];
    if (block.bytes < bytes) {
      void* memory = nullptr;
      if (posix_memalign(&memory, 64, bytes) != 0) return nullptr;
      block = {std::unique_ptr<void, Free>(memory), bytes};
    }
    return block.memory.get();
  }

  // Ends a call: the next one gets the same blocks again.
  void reuse() { next_ = 0; }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  struct Block {
    std::unique_ptr<void, Free> memory;
    std::size_t bytes = 0;
  };
  std::vector<Block> blocks_;
  std::size_t next_ = 0;
};

template <class T>
void expect(const Array<T>& array, Index rows, Index columns, const std::string& name) {
  if (array.ndim() != 2 || array.shape(0) != rows || array.shape(1) != columns) {
    fail(name + " must have shape [" + std::to_string(rows) + ", " + std::to_string(columns) + "]");
  }
}

// Seconds of `repeat` calls, after one that is not timed: it touches the memory and fetches the
// operands.
double seconds_of(int repeat, int threads, const std::string& isa_name,
                  const std::function<bool(const Context&)>& call) {
  if (repeat < 1) fail("repeat must be at least 1");
  if (threads < 1) fail("threads must be at least 1");
  const Isa* const isa = isa_of(isa_name);
  const py::gil_scoped_release release;
  KeptScratch scratch;
  std::unique_ptr<SpinningThreads> pool;
  if (threads > 1) pool = std::make_unique<SpinningThreads>(threads);
  const Context context{pool.get(), &scratch, isa};
  bool ok = call(context);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < repeat; ++i) {
    scratch.reuse();
    ok = call(context) && ok;
  }
  const auto end = std::chrono::steady_clock::now();
  if (!ok) throw std::bad_alloc();
  return std::chrono::duration<double>(end - start).count();
}

template <class T>
double time_forward(const Arrays<T>& xs, const Array<T>& kernel, Arrays<T> ys, int repeat,
                    int threads, const std::string& isa) {
  const Kernel<T> w = kernel_of(kernel, /*transpose_kernel=*/false);
  if (ys.size() != xs.size()) fail("one y per x");
  std::vector<ForwardSegment<T>> segments;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const Index rows = rows_of(xs[i], w.in_features, "x");
    expect(ys[i], rows, w.units, "y");
    segments.push_back(
        {rows, xs[i].data(), ys[i].mutable_data(), nullptr, nullptr, Activation::kLinear});
  }
  return seconds_of(repeat, threads, isa,
                    [&](const Context& context) { return forward(context, w, segments); });
}

template <class T>
double time_backward(const Arrays<T>& xs, const Arrays<T>& dys, const Array<T>& kernel,
                     Arrays<T> dxs, std::optional<Array<T>> dkernel, int repeat, int threads,
                     const std::string& isa) {
  const Kernel<T> w = kernel_of(kernel, /*transpose_kernel=*/false);
  if (dys.size() != xs.size()) fail("one dy per x");
  if (!dxs.empty() && dxs.size() != xs.size()) fail("no dx, or one per x");
  if (dkernel) expect(*dkernel, w.in_features, w.units, "dkernel");
  std::vector<BackwardSegment<T>> segments;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const Index rows = rows_of(xs[i], w.in_features, "x");
    expect(dys[i], rows, w.units, "dy");
    if (!dxs.empty()) expect(dxs[i], rows, w.in_features, "dx");
    segments.push_back({rows, xs[i].data(), dys[i].data(), nullptr,
                        dxs.empty() ? nullptr : dxs[i].mutable_data(), nullptr,
                        Activation::kLinear});
  }
  T* const dw = dkernel ? dkernel->mutable_data() : nullptr;
  return seconds_of(repeat, threads, isa,
                    [&](const Context& context) { return backward(context, w, segments, dw); });
}

template <class T>
void define(py::module_& m) {
  using namespace pybind11::literals;
  // noconvert: a converted copy of an output would be written and thrown away.
  m.def("time_forward", &time_forward<T>, "xs"_a.noconvert(), "kernel"_a.noconvert(),
        "ys"_a.noconvert(), "repeat"_a = 1, "threads"_a = 1, "isa"_a = "",
        "Seconds of `repeat` linear forward products into `ys`, after one that is not timed; "
        "nothing is allocated between them.");
  m.def("time_backward", &time_backward<T>, "xs"_a.noconvert(), "dys"_a.noconvert(),
        "kernel"_a.noconvert(), "dxs"_a.noconvert(), "dkernel"_a.noconvert(), "repeat"_a = 1,
        "threads"_a = 1, "isa"_a = "",
        "Seconds of `repeat` linear backward products into `dxs`, an array per input or [], and "
        "`dkernel`, an array or None: those not given are not computed.");
}

}  // namespace

void define_timing(py::module_& m) {
  define<float>(m);
  define<double>(m);
}

}  // namespace shared_dense
