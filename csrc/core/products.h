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

// Rows that follow each other in memory: n rows of A from `a`, whose results go
// to n rows of C from `out`.
template <class T>
struct Run {
  Index rows;
  const T* a;
  OutputRow<T> out;
};

// C[m, n] = f(A[m, :] . B[:, n]): rows in, rows out, B shared.
template <class T>
struct RowsProduct {
  Index rows, depth, columns;
  Index segments;  // that the rows are made of
  const T* b;      // [depth, columns], or [columns, depth] if transposed
  bool transposed;
  // Calls the visitor for the runs that rows [first, first + count) are made
  // of, in order. Called from any thread.
  std::function<void(Index first, Index count, const std::function<void(const Run<T>&)>& visit)>
      runs;
};

template <class T>
[[nodiscard]] bool rows_product(const Context& context, const KernelSet<T>& kernels,
                                const RowsProduct<T>& product);

// C[m, n] = sum over r of A[r, m] * B[r, n], in chunks of kRowChunk rows.
template <class T>
struct SumProduct {
  Index rows, reduction, columns;
  // Pointers to rows [first, first + count) of A and of B. From any thread.
  std::function<void(Index first, Index count, const T** a, const T** b)> gather;
  T* c;  // [rows, columns]
};

template <class T>
[[nodiscard]] bool sum_product(const Context& context, const KernelSet<T>& kernels,
                               const SumProduct<T>& product);

}  // namespace shared_dense
