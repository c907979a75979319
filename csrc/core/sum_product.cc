// Two row lists in, one matrix out: a sum over chunks of kRowChunk rows, each
// from zero, added in order. Which thread makes a chunk does not show in it.
#include <algorithm>

#include "core/products.h"

namespace shared_dense {
namespace {

Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

template <class T>
T* allocate(const Context& context, Index items) {
  return static_cast<T*>(context.scratch->allocate(items * sizeof(T)));
}

// A block of C, and what it takes to make one chunk of it.
template <class T>
struct Part {
  Index row, rows, column, columns;
  std::vector<OutputRow<T>> out;  // the block's rows, from their first column
  T *a, *b;                       // room for packed panels: a_items(), b_items()

  static Index a_items(const KernelSet<T>& kernels, Index rows) {
    return ceil_div(rows, kernels.rows) * (kernels.rows * kRowChunk + kPanelSlack);
  }
  static Index b_items(const KernelSet<T>& kernels, Index columns) {
    return ceil_div(columns, kernels.columns) * (kernels.columns * kRowChunk + kPanelSlack);
  }

  Part(const KernelSet<T>& kernels, Index first_row, Index row_count, Index first_column,
       Index column_count, T* c, Index c_step, T* panels)
      : row(first_row),
        rows(row_count),
        column(first_column),
        columns(column_count),
        out(row_count),
        a(panels),
        b(panels + a_items(kernels, row_count)) {
    for (Index i = 0; i < rows; ++i) {
      out[i] = {c + i * c_step, nullptr, nullptr, Activation::kLinear};
    }
  }
};

// The chunk of rows that starts at `first`, stored to or added to its block.
template <class T>
void multiply_chunk(const KernelSet<T>& kernels, const SumProduct<T>& product, const Part<T>& part,
                    Index first, Accumulate accumulate) {
  const Index depth = std::min(kRowChunk, product.reduction - first);
  const T* a_rows[kRowChunk];
  const T* b_rows[kRowChunk];
  product.gather(first, depth, a_rows, b_rows);
  const Index a_stride = kernels.rows * depth + kPanelSlack;
  const Index b_stride = kernels.columns * depth + kPanelSlack;
  kernels.pack_straight(a_rows, part.rows, kernels.rows, part.row, product.rows - part.row, depth,
                        part.a, a_stride);
  kernels.pack_straight(b_rows, part.columns, kernels.columns, part.column,
                        product.columns - part.column, depth, part.b, b_stride);
  Block<T> block{};
  block.rows = part.rows;
  block.columns = part.columns;
  block.depth = depth;
  block.a = part.a;
  block.b = part.b;
  block.a_stride = a_stride;
  block.b_stride = b_stride;
  block.out = part.out.data();
  block.column = 0;
  block.accumulate = accumulate;
  block.finish = false;
  kernels.multiply(block);
}

// Every task owns a block of C and walks all rows.
template <class T>
bool by_blocks(const Context& context, const KernelSet<T>& kernels, const SumProduct<T>& product,
               const SumPlan& plan) {
  const Index m = product.rows, n = product.columns;
  ThreadPool* threads = plan.parallel ? context.threads : nullptr;
  const Index column_blocks = ceil_div(n, plan.column_block);
  const Index tasks = ceil_div(m, plan.row_block) * column_blocks;
  const Index items =
      Part<T>::a_items(kernels, plan.row_block) + Part<T>::b_items(kernels, plan.column_block);
  T* panels = allocate<T>(context, worker_count(threads, tasks) * items);
  if (panels == nullptr) return false;

  parallel_for(threads, tasks, [&](Index task, int worker) {
    const Index row = task / column_blocks * plan.row_block;
    const Index column = task % column_blocks * plan.column_block;
    const Part<T> part(kernels, row, std::min(plan.row_block, m - row), column,
                       std::min(plan.column_block, n - column), product.c + row * n + column, n,
                       panels + worker * items);
    for (Index first = 0; first < product.reduction; first += kRowChunk) {
      multiply_chunk(kernels, product, part, first,
                     first == 0 ? Accumulate::kStart : Accumulate::kAdd);
    }
  });
  return true;
}

// A task makes all of C for one chunk; a batch of chunks is then added to C in
// order. For a small C, whose blocks would be few.
template <class T>
bool by_chunks(const Context& context, const KernelSet<T>& kernels, const SumProduct<T>& product,
               Index batch) {
  const Index m = product.rows, n = product.columns;
  const Index chunks = ceil_div(product.reduction, kRowChunk);
  const Index items = Part<T>::a_items(kernels, m) + Part<T>::b_items(kernels, n);
  T* panels = allocate<T>(context, worker_count(context.threads, batch) * items);
  T* sums = allocate<T>(context, batch * m * n);
  if (panels == nullptr || sums == nullptr) return false;

  // Two stages a batch: make its chunks, then add them to C.
  std::vector<Index> stages;
  for (Index first = 0; first < chunks; first += batch) {
    stages.push_back(std::min(batch, chunks - first));
    stages.push_back(1);
  }
  parallel_stages(context.threads, stages, [&](int stage, Index item, int worker) {
    const Index first = stage / 2 * batch;
    if (stage % 2 == 0) {
      const Part<T> part(kernels, 0, m, 0, n, sums + item * m * n, n, panels + worker * items);
      multiply_chunk(kernels, product, part, (first + item) * kRowChunk, Accumulate::kStart);
      return;
    }
    Index chunk = 0;
    if (first == 0) {
      std::copy_n(sums, m * n, product.c);
      chunk = 1;
    }
    for (; chunk < std::min(batch, chunks - first); ++chunk) {
      for (Index i = 0; i < m * n; ++i) product.c[i] += sums[chunk * m * n + i];
    }
  });
  return true;
}

template <class T>
bool as_it_is(const Context& context, const KernelSet<T>& kernels, const SumProduct<T>& product) {
  const MicroShape micro{kernels.rows, kernels.columns, kernels.lanes, static_cast<int>(sizeof(T))};
  const SumPlan plan = plan_sum(product.rows, product.reduction, product.columns, micro, caches(),
                                workers_of(context));
  return plan.batch > 0 ? by_chunks(context, kernels, product, plan.batch)
                        : by_blocks(context, kernels, product, plan);
}

// C^T = B^T . A is the same sums: taken where C is narrower than it is high, so
// that the long side lies along the vectors.
template <class T>
bool flipped(const Context& context, const KernelSet<T>& kernels, const SumProduct<T>& product) {
  SumProduct<T> other = product;
  other.rows = product.columns;
  other.columns = product.rows;
  other.c = allocate<T>(context, product.rows * product.columns);
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
