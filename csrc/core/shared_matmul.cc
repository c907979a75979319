#include "core/shared_matmul.h"

#include <algorithm>
#include <type_traits>

#include "core/column_sums.h"
#include "core/products.h"
#include "core/stack.h"

namespace shared_dense {
namespace {

// Elements of dZ formed by one task: enough work to hide taking the task.
constexpr Index kElementsPerTask = Index{1} << 13;

// dZ = dY * f'(.), written once, in the accumulator's type, and read by all
// three backward products. A linear segment whose dY is of that type needs
// none: its dZ is its dY.
template <class S>
bool needs_dz(const BackwardSegment<S>& segment) {
  return !std::is_same_v<S, Accumulator<S>> || segment.activation != Activation::kLinear;
}

template <class S>
bool form_dz(const Context& context, Index units, const std::vector<BackwardSegment<S>>& segments,
             std::vector<const Accumulator<S>*>* dz) {
  using T = Accumulator<S>;
  Index rows = 0;
  for (const BackwardSegment<S>& segment : segments) {
    if (needs_dz(segment)) rows += segment.rows;
  }
  T* memory = nullptr;
  if (rows * units > 0) {
    memory = static_cast<T*>(context.scratch->allocate(rows * units * sizeof(T)));
    if (memory == nullptr) return false;
  }
  // All segments are cut into tasks of one list: many short ones together are as
  // much work as one long one.
  struct Task {
    const BackwardSegment<S>* segment;
    T* dz;
    Index first, count;
  };
  std::vector<Task> tasks;
  for (const BackwardSegment<S>& segment : segments) {
    if (!needs_dz(segment)) {
      if constexpr (std::is_same_v<S, T>) dz->push_back(segment.dy);
      continue;
    }
    dz->push_back(memory);
    const Index count = segment.rows * units;
    for (Index first = 0; first < count; first += kElementsPerTask) {
      tasks.push_back({&segment, memory, first, std::min(kElementsPerTask, count - first)});
    }
    memory += count;
  }
  const IsaFunctions<S>& functions = functions_of<S>(*context.isa);
  parallel_for(threads_for_elements(context, rows * units), static_cast<Index>(tasks.size()),
               [&](Index item, int) {
                 const Task& task = tasks[item];
                 const BackwardSegment<S>& segment = *task.segment;
                 const bool linear = segment.activation == Activation::kLinear;
                 functions.differentiate(segment.activation, segment.dy + task.first,
                                         linear ? nullptr : segment.saved + task.first, task.count,
                                         task.dz + task.first);
               });
  return true;
}

}  // namespace

template <class S>
bool forward(const Context& context, const Kernel<S>& kernel,
             const std::vector<ForwardSegment<S>>& segments) {
  return rows_product(context, forward_product(kernel, segments));
}

template <class S>
bool backward(const Context& context, const Kernel<S>& kernel,
              const std::vector<BackwardSegment<S>>& all, S* dkernel) {
  const std::vector<BackwardSegment<S>> segments = that_need_dz(all, dkernel != nullptr);
  std::vector<const Accumulator<S>*> dz;
  if (!form_dz(context, kernel.units, segments, &dz)) return false;
  if (!rows_product(context, input_gradient_product(kernel, segments, dz))) return false;
  if (dkernel != nullptr) {
    const auto product = kernel_gradient_product(kernel, segments, dz, dkernel);
    const bool done = kernel.transpose_kernel ? sum_product(context, transposed(product, dkernel))
                                              : sum_product(context, product);
    if (!done) return false;
  }
  return column_sums(context, kernel.units, segments, dz);
}

#define SHARED_DENSE_INSTANTIATE(S)                                                                \
  template bool forward(const Context&, const Kernel<S>&, const std::vector<ForwardSegment<S>>&);  \
  template bool backward(const Context&, const Kernel<S>&, const std::vector<BackwardSegment<S>>&, \
                         S*);
SHARED_DENSE_INSTANTIATE(float)
SHARED_DENSE_INSTANTIATE(double)
SHARED_DENSE_INSTANTIATE(BFloat16)
SHARED_DENSE_INSTANTIATE(Half)
#undef SHARED_DENSE_INSTANTIATE

}  // namespace shared_dense
