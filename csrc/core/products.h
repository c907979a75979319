// The two shapes of product that the three of the public face are made of:
// planned, and computed on the workers of a call.
#pragma once

#include "core/isa/dispatch.h"
#include "core/plan.h"
#include "core/segments.h"
#include "core/shared_matmul.h"

namespace shared_dense {

// The workers of a call, as the plan wants to know them.
inline Workers workers_of(const Context& context) {
  if (context.threads == nullptr) return {1, kAsleepWork};
  return {context.threads->threads(), context.threads->awake() ? kAwakeWork : kAsleepWork};
}

// The threads for work on so many elements, each of which comes from a cache far
// away and so costs as much as some multiply-adds; nullptr: the caller alone is faster.
inline ThreadPool* threads_for_elements(const Context& context, Index elements) {
  constexpr Index kElementCost = 16;
  return elements * kElementCost < workers_of(context).worth ? nullptr : context.threads;
}

// The plan of a rows product.
template <class A, class S>
RowsPlan plan_of(const Isa& isa, const Workers& workers, RowsShape shape);

template <class A, class S>
[[nodiscard]] bool rows_product(const Context& context, const RowsProduct<A, S>& product);

// How a sum product runs. If `flips`, C^T is what the plan is for, and turned over.
struct SumWay {
  bool flips;
  SumPlan plan;
};

template <class S>
SumWay plan_of_sum(const Isa& isa, const Workers& workers, const SumShape& shape);

template <class A, class B, class S>
[[nodiscard]] bool sum_product(const Context& context, const SumProduct<A, B, S>& product);

}  // namespace shared_dense
