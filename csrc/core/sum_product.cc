// Two row lists in, one matrix out. Each task owns a block of C and walks all
// stacked rows, a chunk at a time, so no partial sums are ever combined across
// threads and the bits do not depend on how many there are.
#include <algorithm>

#include "core/plan.h"
#include "core/products.h"

namespace shared_dense {
namespace {

Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

// Columns [first, first + count) of `depth` rows as panels of `width`.
template <class T>
void pack_columns(const KernelSet<T>& kernels, const T* const* rows, Index first, Index count,
                  int width, Index depth, T* to) {
  for (Index c = 0; c < count; c += width) {
    const int here = static_cast<int>(std::min<Index>(width, count - c));
    kernels.pack_straight(rows, here, width, first + c, depth, to + c * depth);
  }
}

template <class T>
bool as_it_is(const Context& context, const KernelSet<T>& kernels, const SumProduct<T>& product) {
  const Index m = product.rows, r = product.reduction, n = product.columns;
  const int mr = kernels.rows, nr = kernels.columns;
  const MicroShape micro{mr, nr, static_cast<int>(sizeof(T))};
  const SumPlan plan = plan_sum(m, r, n, micro, caches(),
                                context.threads == nullptr ? 1 : context.threads->threads());
  ThreadPool* threads = plan.parallel ? context.threads : nullptr;

  const Index column_blocks = ceil_div(n, plan.column_block);
  const Index tasks = ceil_div(m, plan.row_block) * column_blocks;
  const int workers = worker_count(threads, tasks);
  const Index depth_most = std::min(r, kRowChunk);
  const Index a_items = ceil_div(plan.row_block, mr) * mr * depth_most;
  const Index b_items = ceil_div(plan.column_block, nr) * nr * depth_most;
  T* panels = static_cast<T*>(context.scratch->allocate(workers * (a_items + b_items) * sizeof(T)));
  if (panels == nullptr) return false;

  parallel_for(threads, tasks, [&](Index task, int worker) {
    const Index row = task / column_blocks * plan.row_block;
    const Index column = task % column_blocks * plan.column_block;
    const Index rows = std::min(plan.row_block, m - row);
    const Index columns = std::min(plan.column_block, n - column);

    std::vector<OutputRow<T>> out(rows);
    for (Index i = 0; i < rows; ++i) {
      out[i] = {product.c + (row + i) * n, nullptr, nullptr, Activation::kLinear};
    }
    T* a = panels + worker * (a_items + b_items);
    T* b = a + a_items;
    const T* a_rows[kRowChunk];
    const T* b_rows[kRowChunk];
    for (Index first = 0; first < r; first += kRowChunk) {
      const Index depth = std::min(kRowChunk, r - first);
      product.gather(first, depth, a_rows, b_rows);
      pack_columns(kernels, a_rows, row, rows, mr, depth, a);
      pack_columns(kernels, b_rows, column, columns, nr, depth, b);
      Block<T> block{};
      block.rows = rows;
      block.columns = columns;
      block.depth = depth;
      block.a = a;
      block.b = b;
      block.a_stride = mr * depth;
      block.b_stride = nr * depth;
      block.b_step = nr;
      block.out = out.data();
      block.column = column;
      block.accumulate = first == 0 ? Accumulate::kStart : Accumulate::kAdd;
      block.finish = false;
      kernels.multiply(block);
    }
  });
  return true;
}

// C^T = B^T . A is the same sums: taken where C is narrower than it is high, so
// that the long side lies along the vectors.
template <class T>
bool flipped(const Context& context, const KernelSet<T>& kernels, const SumProduct<T>& product) {
  SumProduct<T> other = product;
  other.rows = product.columns;
  other.columns = product.rows;
  other.c = static_cast<T*>(context.scratch->allocate(product.rows * product.columns * sizeof(T)));
  if (other.c == nullptr) return false;
  other.gather = [&](Index first, Index count, const T** a, const T** b) {
    product.gather(first, count, b, a);
  };
  if (!as_it_is(context, kernels, other)) return false;
  for (Index row = 0; row < product.rows; ++row) {
    for (Index column = 0; column < product.columns; ++column) {
      product.c[row * product.columns + column] = other.c[column * product.rows + row];
    }
  }
  return true;
}

}  // namespace

template <class T>
bool sum_product(const Context& context, const KernelSet<T>& kernels,
                 const SumProduct<T>& product) {
  const Index m = product.rows, n = product.columns;
  if (m == 0 || n == 0) return true;
  if (product.reduction == 0) {
    std::fill_n(product.c, m * n, T(0));
    return true;
  }
  const bool narrow = n < kernels.columns && m > n;
  return narrow ? flipped(context, kernels, product) : as_it_is(context, kernels, product);
}

template bool sum_product(const Context&, const KernelSet<float>&, const SumProduct<float>&);
template bool sum_product(const Context&, const KernelSet<double>&, const SumProduct<double>&);

}  // namespace shared_dense
