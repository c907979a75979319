// The two shapes of product that the three of the public API are made of.
#pragma once

#include <functional>
#include <vector>

#include "core/dispatch.h"
#include "core/plan.h"
#include "core/shared_matmul.h"
#include "core/stack.h"

namespace shared_dense {

// The workers of a call, as the plan wants to know them.
inline Workers workers_of(const Context& context) {
  if (context.threads == nullptr) return {1, kAsleepWork};
  return {context.threads->threads(), context.threads->awake() ? kAwakeWork : kAsleepWork};
}

// Operands are stored as S, or as its accumulator where they are dZ.

// Rows that follow each other in memory: n rows of A from `a`, whose results go
// to n rows of C from `out`.
template <class A, class S>
struct Run {
  Index rows;
  const A* a;
  OutputRow<S> out;
};

// C[m, n] = f(A[m, :] . B[:, n]): rows in, rows out, B shared.
template <class A, class S>
struct RowsProduct {
  Index rows, depth, columns;
  Index segments;  // that the rows are made of
  const S* b;      // [depth, columns], or [columns, depth] if transposed
  bool transposed;
  // Calls the visitor for the runs that rows [first, first + count) are made
  // of, in order. Called from any thread.
  std::function<void(Index first, Index count, const std::function<void(const Run<A, S>&)>& visit)>
      runs;
};

// The plan of such a product.
template <class A, class S>
RowsPlan plan_of(const Isa& isa, const Workers& workers, Index rows, Index depth, Index columns,
                 Index segments, bool transposed);

template <class A, class S>
[[nodiscard]] bool rows_product(const Context& context, const RowsProduct<A, S>& product);

// C[m, n] = sum over r of A[r, m] * B[r, n], in chunks of rows.
template <class A, class B, class S>
struct SumProduct {
  Index rows, reduction, columns;
  std::vector<RowChunk> chunks;  // of r, none longer than kRowChunk
  // Pointers to rows [first, first + count) of A and of B. From any thread.
  std::function<void(Index first, Index count, const A** a, const B** b)> gather;
  S* c;  // [rows, columns]
};

// The plan of such a product, whose C^T is made if `flips`.
template <class S>
SumPlan plan_of_sum(const Isa& isa, const Workers& workers, Index rows, Index reduction,
                    Index columns, bool* flips);

template <class A, class B, class S>
[[nodiscard]] bool sum_product(const Context& context, const SumProduct<A, B, S>& product);

}  // namespace shared_dense
