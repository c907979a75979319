// Rows in, rows out: packs B in panels that all rows share, then lets every
// task pack its own rows of A and multiply.
#include <algorithm>

#include "core/plan.h"
#include "core/products.h"

namespace shared_dense {
namespace {

Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

// An empty reduction: every element is f(0 + bias).
template <class T>
bool no_depth(const Context& context, const KernelSet<T>& kernels, const RowsProduct<T>& product) {
  T* zeros = static_cast<T*>(context.scratch->allocate(product.columns * sizeof(T)));
  if (zeros == nullptr) return false;
  std::fill_n(zeros, product.columns, T(0));
  for (Index row = 0; row < product.rows; ++row) {
    RowPair<T> pair;
    product.gather(row, 1, &pair);
    kernels.finish_row(pair.out, zeros, product.columns);
  }
  return true;
}

// Panel `panel` of B's columns [first_column, ...), over the whole depth.
template <class T>
void pack_panel(const KernelSet<T>& kernels, const RowsProduct<T>& product, Index column, T* to) {
  const int width = kernels.columns;
  const int count = static_cast<int>(std::min<Index>(width, product.columns - column));
  if (product.transposed) {
    const T* rows[64];
    for (int c = 0; c < count; ++c) rows[c] = product.b + (column + c) * product.depth;
    kernels.pack_transposed(rows, count, width, 0, product.depth, to);
    return;
  }
  constexpr Index step = 64;
  const T* rows[step];
  for (Index k = 0; k < product.depth; k += step) {
    const Index depth = std::min(step, product.depth - k);
    for (Index i = 0; i < depth; ++i) rows[i] = product.b + (k + i) * product.columns;
    kernels.pack_straight(rows, count, width, column, depth, to + k * width);
  }
}

}  // namespace

template <class T>
bool rows_product(const Context& context, const KernelSet<T>& kernels,
                  const RowsProduct<T>& product) {
  const Index m = product.rows, k = product.depth, n = product.columns;
  if (m == 0 || n == 0) return true;
  if (k == 0) return no_depth(context, kernels, product);

  const int mr = kernels.rows, nr = kernels.columns;
  static_assert(sizeof(T) <= 8, "panels of at most 64 columns");
  const MicroShape micro{mr, nr, static_cast<int>(sizeof(T))};
  const RowsPlan plan = plan_rows(m, k, n, micro, caches(),
                                  context.threads == nullptr ? 1 : context.threads->threads());
  ThreadPool* threads = plan.parallel ? context.threads : nullptr;

  const Index row_blocks = ceil_div(m, plan.row_block);
  const Index most_tasks = row_blocks * ceil_div(plan.column_chunk, plan.column_block);
  const int workers = worker_count(threads, most_tasks);
  const Index a_items = ceil_div(plan.row_block, mr) * mr * plan.depth;
  T* b_panels = static_cast<T*>(
      context.scratch->allocate(ceil_div(plan.column_chunk, nr) * nr * k * sizeof(T)));
  T* a_panels = static_cast<T*>(context.scratch->allocate(workers * a_items * sizeof(T)));
  if (b_panels == nullptr || a_panels == nullptr) return false;
  struct Rows {
    std::vector<RowPair<T>> pairs;
    std::vector<const T*> a;
    std::vector<OutputRow<T>> out;
  };
  std::vector<Rows> rows_of(workers);

  for (Index chunk = 0; chunk < n; chunk += plan.column_chunk) {
    const Index chunk_columns = std::min(plan.column_chunk, n - chunk);
    parallel_for(threads, ceil_div(chunk_columns, nr), [&](Index panel, int) {
      pack_panel(kernels, product, chunk + panel * nr, b_panels + panel * nr * k);
    });

    // Neighbouring tasks share the columns of B, still warm in a shared cache.
    const Index tasks = row_blocks * ceil_div(chunk_columns, plan.column_block);
    parallel_for(threads, tasks, [&](Index task, int worker) {
      const Index row = task % row_blocks * plan.row_block;
      const Index column = task / row_blocks * plan.column_block;
      const Index rows = std::min(plan.row_block, m - row);

      Rows& mine = rows_of[worker];
      mine.pairs.resize(rows);
      mine.a.resize(rows);
      mine.out.resize(rows);
      product.gather(row, rows, mine.pairs.data());
      for (Index i = 0; i < rows; ++i) {
        mine.a[i] = mine.pairs[i].a;
        mine.out[i] = mine.pairs[i].out;
      }

      T* a = a_panels + worker * a_items;
      for (Index first = 0; first < k; first += plan.depth) {
        const Index depth = std::min(plan.depth, k - first);
        for (Index r = 0; r < rows; r += mr) {
          const int count = static_cast<int>(std::min<Index>(mr, rows - r));
          kernels.pack_transposed(&mine.a[r], count, mr, first, depth, a + r * depth);
        }
        Block<T> block{};
        block.rows = rows;
        block.columns = std::min(plan.column_block, chunk_columns - column);
        block.depth = depth;
        block.a = a;
        block.b = b_panels + column * k + first * nr;
        block.a_stride = mr * depth;
        block.b_stride = nr * k;
        block.out = mine.out.data();
        block.column = chunk + column;
        block.accumulate = first == 0 ? Accumulate::kStart : Accumulate::kContinue;
        block.finish = first + depth == k;
        kernels.multiply(block);
      }
    });
  }
  return true;
}

template bool rows_product(const Context&, const KernelSet<float>&, const RowsProduct<float>&);
template bool rows_product(const Context&, const KernelSet<double>&, const RowsProduct<double>&);

}  // namespace shared_dense
