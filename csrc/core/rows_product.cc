// Rows in, rows out, in the way the plan says.
#include <algorithm>

#include "core/plan.h"
#include "core/products.h"

namespace shared_dense {
namespace {

Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

// What one call has to know everywhere.
template <class T>
struct Call {
  const Context& context;
  const KernelSet<T>& kernels;
  const RowsProduct<T>& product;
  const RowsPlan plan;
  ThreadPool* const threads;

  T* allocate(Index items) const {
    return static_cast<T*>(context.scratch->allocate((items + kPanelSlack) * sizeof(T)));
  }
};

// The rows of one block, in the two lists that packing and multiplying want.
template <class T>
struct RowList {
  std::vector<const T*> a;
  std::vector<OutputRow<T>> out;

  void fill(const RowsProduct<T>& product, Index first, Index count) {
    a.clear();
    out.clear();
    product.runs(first, count, [&](const Run<T>& run) {
      for (Index row = 0; row < run.rows; ++row) {
        T* kept = run.out.pre_activation;
        a.push_back(run.a + row * product.depth);
        out.push_back({run.out.y + row * product.columns,
                       kept == nullptr ? nullptr : kept + row * product.columns, run.out.bias,
                       run.out.activation});
      }
    });
  }
};

// An empty reduction: every element is f(0 + bias).
template <class T>
bool no_depth(const Call<T>& call) {
  T* zeros = call.allocate(call.product.columns);
  if (zeros == nullptr) return false;
  std::fill_n(zeros, call.product.columns, T(0));
  RowList<T> rows;
  constexpr Index step = 256;
  for (Index first = 0; first < call.product.rows; first += step) {
    rows.fill(call.product, first, std::min(step, call.product.rows - first));
    for (const OutputRow<T>& out : rows.out) {
      call.kernels.finish_row(out, 0, zeros, call.product.columns);
    }
  }
  return true;
}

// Packs k in [first, first + depth) of the panel of B that starts at `column`.
template <class T>
void pack_b(const Call<T>& call, Index column, Index first, Index depth, T* to) {
  const RowsProduct<T>& product = call.product;
  const int width = call.kernels.columns;
  const int count = static_cast<int>(std::min<Index>(width, product.columns - column));
  constexpr Index step = 64;  // no fewer than the columns of any micro-kernel
  const T* rows[step];
  if (product.transposed) {
    for (int c = 0; c < count; ++c) rows[c] = product.b + (column + c) * product.depth;
    call.kernels.pack_transposed(rows, count, width, first, depth, to);
    return;
  }
  for (Index k = 0; k < depth; k += step) {
    const Index here = std::min(step, depth - k);
    for (Index i = 0; i < here; ++i) rows[i] = product.b + (first + k + i) * product.columns;
    call.kernels.pack_straight(rows, count, width, column, here, to + k * width);
  }
}

// Packs k in [first, first + depth) of `count` rows of A, in panels of MR.
template <class T>
void pack_a(const Call<T>& call, const T* const* rows, Index count, Index first, Index depth,
            T* to) {
  const int mr = call.kernels.rows;
  for (Index r = 0; r < count; r += mr) {
    const int here = static_cast<int>(std::min<Index>(mr, count - r));
    call.kernels.pack_transposed(rows + r, here, mr, first, depth, to + r * depth);
  }
}

template <class T>
Index a_stride(const Call<T>& call) {
  return call.kernels.rows * call.product.depth + kPanelSlack;
}

template <class T>
bool narrow(const Call<T>& call) {
  const Index m = call.product.rows, k = call.product.depth;
  const Index tasks = ceil_div(m, call.plan.row_block);
  T* b = call.allocate(k * call.kernels.columns);
  if (b == nullptr) return false;
  pack_b(call, 0, 0, k, b);

  parallel_for(call.threads, tasks, [&](Index task, int) {
    const Index first = task * call.plan.row_block;
    const Index count = std::min(call.plan.row_block, m - first);
    call.product.runs(first, count, [&](const Run<T>& run) {
      call.kernels.multiply_in_place({run.rows, call.product.columns, k, run.a, b, run.out});
    });
  });
  return true;
}

// Packs all rows whole; panels that different workers pack have room to run
// over, hence the stride.
template <class T>
void pack_panel_of_a(const Call<T>& call, const RowList<T>& rows, Index panel, T* a) {
  const Index row = panel * call.kernels.rows, k = call.product.depth;
  pack_a(call, &rows.a[row], std::min<Index>(call.kernels.rows, call.product.rows - row), 0, k,
         a + panel * a_stride(call));
}

// Scratch of one worker that packs a panel of B block by block.
template <class T>
Index b_items(const Call<T>& call) {
  return call.plan.depth * call.kernels.columns + kPanelSlack;
}

// All rows times the panel of B that starts at `column`, packed on the way.
template <class T>
void multiply_panel(const Call<T>& call, const RowList<T>& rows, const T* a, Index column, T* b) {
  const Index k = call.product.depth;
  for (Index first = 0; first < k; first += call.plan.depth) {
    Block<T> block{};
    block.rows = call.product.rows;
    block.columns = std::min<Index>(call.kernels.columns, call.product.columns - column);
    block.depth = std::min(call.plan.depth, k - first);
    pack_b(call, column, first, block.depth, b);
    block.a = a + first * call.kernels.rows;
    block.a_stride = a_stride(call);
    block.b = b;
    block.b_step = call.kernels.columns;
    block.out = rows.out.data();
    block.column = column;
    block.accumulate = first == 0 ? Accumulate::kStart : Accumulate::kContinue;
    block.finish = first + block.depth == k;
    call.kernels.multiply(block);
  }
}

// Reads B where it lies, once and in long runs: a few k at a time over a wide
// stripe of columns, whose sums stay in cache meanwhile.
template <class T>
bool stream_rows(const Call<T>& call) {
  const RowsPlan& plan = call.plan;
  const Index m = call.product.rows, k = call.product.depth, n = call.product.columns;
  const int mr = call.kernels.rows;
  const Index panels = ceil_div(m, mr), tasks = ceil_div(n, plan.column_block);
  const int workers = worker_count(call.threads, std::max(panels, tasks));
  T* a = call.allocate(panels * a_stride(call));
  T* b = call.allocate(workers * b_items(call));
  T* sums = call.allocate(workers * m * plan.column_block);
  if (a == nullptr || b == nullptr || sums == nullptr) return false;
  RowList<T> rows;
  rows.fill(call.product, 0, m);

  parallel_stages(call.threads, {panels, tasks}, [&](int stage, Index item, int worker) {
    if (stage == 0) {
      pack_panel_of_a(call, rows, item, a);
      return;
    }
    T* sum = sums + worker * m * plan.column_block;
    const Index column = item * plan.column_block;
    const Index columns = std::min(plan.column_block, n - column);
    StreamBlock<T> block{};
    block.rows = m;
    block.columns = columns / call.kernels.lanes * call.kernels.lanes;
    block.a_stride = a_stride(call);
    block.b_step = n;
    block.sum = sum;
    block.sum_step = plan.column_block;
    for (Index first = 0; first < k; first += plan.depth) {
      block.depth = std::min(plan.depth, k - first);
      block.a = a + first * mr;
      block.b = call.product.b + first * n + column;
      block.from_zero = first == 0;
      call.kernels.stream(block);
    }
    for (Index row = 0; row < m; ++row) {
      call.kernels.finish_row(rows.out[row], column, sum + row * plan.column_block, block.columns);
    }
    // What is left over at the right edge is narrower than a vector.
    if (block.columns < columns) {
      multiply_panel(call, rows, a, column + block.columns, b + worker * b_items(call));
    }
  });
  return true;
}

template <class T>
bool few_rows(const Call<T>& call) {
  const RowsPlan& plan = call.plan;
  const Index n = call.product.columns;
  const Index panels = ceil_div(call.product.rows, call.kernels.rows);
  const Index tasks = ceil_div(n, plan.column_block);
  const int workers = worker_count(call.threads, std::max(panels, tasks));
  T* a = call.allocate(panels * a_stride(call));
  T* b = call.allocate(workers * b_items(call));
  if (a == nullptr || b == nullptr) return false;
  RowList<T> rows;
  rows.fill(call.product, 0, call.product.rows);

  parallel_stages(call.threads, {panels, tasks}, [&](int stage, Index item, int worker) {
    if (stage == 0) {
      pack_panel_of_a(call, rows, item, a);
      return;
    }
    const Index end = std::min(n, (item + 1) * plan.column_block);
    for (Index column = item * plan.column_block; column < end; column += call.kernels.columns) {
      multiply_panel(call, rows, a, column, b + worker * b_items(call));
    }
  });
  return true;
}

template <class T>
bool many_rows(const Call<T>& call) {
  const RowsPlan& plan = call.plan;
  const Index m = call.product.rows, k = call.product.depth, n = call.product.columns;
  const int mr = call.kernels.rows, nr = call.kernels.columns;
  const Index row_blocks = ceil_div(m, plan.row_block);
  const Index chunk_panels = plan.column_chunk / nr;
  const Index chunk_tasks = row_blocks * ceil_div(plan.column_chunk, plan.column_block);
  const int workers = worker_count(call.threads, std::max(chunk_panels, chunk_tasks));
  const Index a_items = plan.row_block * plan.depth + kPanelSlack;
  const Index b_panel = nr * k + kPanelSlack;
  T* a_blocks = call.allocate(workers * a_items);
  T* b = call.allocate(chunk_panels * b_panel);
  if (a_blocks == nullptr || b == nullptr) return false;
  std::vector<RowList<T>> lists(workers);

  // Two stages a chunk: pack its panels of B, then multiply.
  std::vector<Index> items;
  for (Index chunk = 0; chunk < n; chunk += plan.column_chunk) {
    const Index columns = std::min(plan.column_chunk, n - chunk);
    items.push_back(ceil_div(columns, nr));
    items.push_back(row_blocks * ceil_div(columns, plan.column_block));
  }
  parallel_stages(call.threads, items, [&](int stage, Index item, int worker) {
    const Index chunk = stage / 2 * plan.column_chunk;
    if (stage % 2 == 0) {
      pack_b(call, chunk + item * nr, 0, k, b + item * b_panel);
      return;
    }
    // Neighbouring tasks share the columns of B, still warm in a shared cache.
    const Index row = item % row_blocks * plan.row_block;
    const Index column = item / row_blocks * plan.column_block;
    const Index count = std::min(plan.row_block, m - row);
    RowList<T>& rows = lists[worker];
    rows.fill(call.product, row, count);
    T* a = a_blocks + worker * a_items;
    for (Index first = 0; first < k; first += plan.depth) {
      Block<T> block{};
      block.rows = count;
      block.columns = std::min(plan.column_block, std::min(plan.column_chunk, n - chunk) - column);
      block.depth = std::min(plan.depth, k - first);
      pack_a(call, rows.a.data(), count, first, block.depth, a);
      block.a = a;
      block.a_stride = mr * block.depth;
      block.b = b + column / nr * b_panel + first * nr;
      block.b_stride = b_panel;
      block.b_step = nr;
      block.out = rows.out.data();
      block.column = chunk + column;
      block.accumulate = first == 0 ? Accumulate::kStart : Accumulate::kContinue;
      block.finish = first + block.depth == k;
      call.kernels.multiply(block);
    }
  });
  return true;
}

}  // namespace

template <class T>
bool rows_product(const Context& context, const KernelSet<T>& kernels,
                  const RowsProduct<T>& product) {
  if (product.rows == 0 || product.columns == 0) return true;
  const int threads = context.threads == nullptr ? 1 : context.threads->threads();
  const MicroShape micro{kernels.rows, kernels.columns, static_cast<int>(sizeof(T))};
  const Index run = product.rows / std::max<Index>(product.segments, 1);
  const RowsPlan plan = plan_rows(product.rows, product.depth, product.columns, run,
                                  product.transposed, micro, caches(), threads);
  const Call<T> call{context, kernels, product, plan, plan.parallel ? context.threads : nullptr};
  if (product.depth == 0) return no_depth(call);
  switch (plan.path) {
    case RowsPath::kNarrow: return narrow(call);
    case RowsPath::kStream: return stream_rows(call);
    case RowsPath::kFew: return few_rows(call);
    case RowsPath::kMany: return many_rows(call);
  }
  return false;
}

template bool rows_product(const Context&, const KernelSet<float>&, const RowsProduct<float>&);
template bool rows_product(const Context&, const KernelSet<double>&, const RowsProduct<double>&);

}  // namespace shared_dense
