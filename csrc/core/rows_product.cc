// Rows in, rows out, in the way the plan says.
#include <algorithm>

#include "core/rows_panels.h"

namespace shared_dense {
namespace {

// An empty reduction: every element is f(0 + bias).
template <class A, class S>
bool no_depth(const RowsCall<A, S>& call) {
  using T = Accumulator<S>;
  T* zeros = call.allocate(call.product.columns);
  if (zeros == nullptr) return false;
  std::fill_n(zeros, call.product.columns, T(0));
  RowList<A, S> rows;
  constexpr Index step = 256;
  for (Index first = 0; first < call.rows; first += step) {
    rows.fill(call.product, first, std::min(step, call.rows - first));
    for (const OutputRow<S>& out : rows.out) {
      call.functions.finish_row(out, 0, zeros, call.product.columns);
    }
  }
  return true;
}

// Multiplies rows of A where they lie by a B that is packed whole, in panels of
// `width`. Rows that follow each other are one call of `multiply`.
template <class A, class S>
bool over_rows_in_place(const RowsCall<A, S>& call, int width,
                        void (*multiply)(const InPlaceBlock<S>&)) {
  const Index m = call.rows, k = call.product.depth, n = call.product.columns;
  const Index tasks = ceil_div(m, call.plan.row_block);
  const Index panels = ceil_div(n, width);
  const Index b_copy = panels * k * width + kPanelSlack;
  S* b = call.allocate(copies(call, tasks) * b_copy);
  if (b == nullptr) return false;

  const auto pack = [&](int, Index panel, int copy) {
    pack_b(call, panel * width, width, 0, k, b + copy * b_copy + panel * width * k);
  };
  pack_then_work(call, {{panels, tasks}}, pack, [&](int, Index task, int, int copy) {
    const Index first = task * call.plan.row_block;
    const Index count = std::min(call.plan.row_block, m - first);
    visit_rows(call.product.segments, first, count,
               [&](const RowsSegment<A, S>& segment, Index row, Index rows) {
                 multiply({rows, n, k, segment.in + row * k, b + copy * b_copy,
                           output_row(segment, row, n)});
               });
  });
  return true;
}

// A shallow or narrow B under long inputs: packing A would cost much beside so few
// multiply-adds an item, so A is read where it lies and only B is packed.
template <class A, class S>
bool in_place(const RowsCall<A, S>& call) {
  return over_rows_in_place(call, call.functions.columns, call.functions.multiply_in_place);
}

// The same for a B of at most half a vector of columns: the vectors lie along the
// rows of A, transposed in registers, and few lanes stay idle (2 x [2000, 500]
// rows of 64 -> 1: 56 -> 22 us; 5,325 rows of 256 -> 3: 432 -> 240 us).
template <class A, class S>
bool flipped(const RowsCall<A, S>& call) {
  return over_rows_in_place(call, call.functions.rows, call.functions.multiply_flipped);
}

// Few rows: all of A is packed and stays in cache, and B is read where it lies,
// once and in long runs, eight of its rows at a time along the whole stripe of
// columns that a task owns, whose sums stay in cache meanwhile. A B larger than
// 16 MB is cut into one stripe per thread: at 1 and 8 rows of 4096 x 4096 on two
// threads, stripes of 512 columns took 2.9 and 3.3 ms, of 2048 columns 1.8 and 2.1.
template <class A, class S>
bool stream_rows(const RowsCall<A, S>& call) {
  using T = Accumulator<S>;
  const RowsPlan& plan = call.plan;
  const Index m = call.rows, k = call.product.depth, n = call.product.columns;
  const int mr = call.functions.rows;
  const Index panels = ceil_div(m, mr), tasks = ceil_div(n, plan.column_block);
  const int workers = worker_count(call.threads, std::max(panels, tasks));
  const Index a_copy = panels * a_stride(call);
  T* a = call.allocate(copies(call, tasks) * a_copy);
  // Only the last task meets an edge narrower than a vector.
  const bool ragged = n % call.functions.lanes != 0;
  T* b = call.allocate(ragged ? b_items(call) : 0);
  // Where two rows of sums, or one and a row of B, lie a multiple of 4 KiB
  // apart, a load of the one waits for a store to the other that it does not
  // overlap: 104 us instead of 62 for 2 rows of 1024 x 1024. 576 bytes over keep
  // eight rows nine lines from each other.
  const Index page = 4096 / sizeof(T);
  const Index sum_step = ceil_div(plan.column_block, page) * page + 576 / sizeof(T);
  T* sums = call.allocate(workers * m * sum_step);
  if (a == nullptr || b == nullptr || sums == nullptr) return false;
  std::vector<OutputRow<S>> outs(copies(call, tasks) * m);

  const auto pack = [&](int, Index panel, int copy) {
    pack_panel_of_a(call, 0, m, panel, a + copy * a_copy, outs.data() + copy * m);
  };
  pack_then_work(call, {{panels, tasks}}, pack, [&](int, Index task, int worker, int copy) {
    const OutputRow<S>* out = outs.data() + copy * m;
    T* sum = sums + worker * m * sum_step;
    const Index column = task * plan.column_block;
    const Index columns = std::min(plan.column_block, n - column);
    StreamBlock<S> block{};
    block.rows = m;
    block.columns = columns / call.functions.lanes * call.functions.lanes;
    block.a_stride = a_stride(call);
    block.b_step = n;
    block.sum = sum;
    block.sum_step = sum_step;
    block.depth = k;
    block.a = a + copy * a_copy;
    block.b = call.product.b + column;
    call.functions.stream(block);
    for (Index row = 0; row < m; ++row) {
      call.functions.finish_row(out[row], column, sum + row * sum_step, block.columns);
    }
    // What is left over at the right edge is narrower than a vector.
    if (block.columns < columns) {
      multiply_panel(call, a + copy * a_copy, out, m, column + block.columns,
                     {b, false, 0, nullptr, 0});
    }
  });
  return true;
}

// A task of the ways that take columns: columns [begin, end) of a block of rows.
template <class A, class S>
struct ColumnsTask {
  const Accumulator<S>* a;  // the block, packed
  const OutputRow<S>* out;  // its rows
  Index rows;
  Index begin, end;
  bool first_rows;                 // whether no block of rows came before
  PanelOfB<Accumulator<S>> panel;  // room for one, packed over and over
};

// Goes over all columns, block of rows by block of rows. A block is packed once
// for all columns. Unfinished sums are kept of `width` columns.
template <class A, class S, class Work>
bool over_columns(const RowsCall<A, S>& call, Index width, const Work& work) {
  using T = Accumulator<S>;
  const RowsPlan& plan = call.plan;
  const Index m = call.rows, n = call.product.columns;
  const Index block = std::min(m, plan.row_block);
  const Index panels = ceil_div(block, call.functions.rows);
  const Index tasks = ceil_div(n, plan.column_block);
  const int workers = worker_count(call.threads, std::max(panels, tasks));
  const Index a_copy = panels * a_stride(call);
  T* a = call.allocate(copies(call, tasks) * a_copy);
  T* b = plan.keeps_b ? nullptr : call.allocate(workers * b_items(call));
  const Index partial = partial_items(call, block, width);
  T* partials = call.allocate(workers * partial);
  if (a == nullptr || (b == nullptr && !plan.keeps_b) || partials == nullptr) return false;
  std::vector<OutputRow<S>> outs(copies(call, tasks) * block);

  std::vector<Pass> passes;
  for (Index first = 0; first < m; first += plan.row_block) {
    passes.push_back({ceil_div(std::min(plan.row_block, m - first), call.functions.rows), tasks});
  }
  const auto pack = [&](int pass, Index panel, int copy) {
    const Index first = pass * plan.row_block;
    pack_panel_of_a(call, first, std::min(plan.row_block, m - first), panel, a + copy * a_copy,
                    outs.data() + copy * block);
  };
  pack_then_work(call, passes, pack, [&](int pass, Index task, int worker, int copy) {
    const Index first = pass * plan.row_block;
    const Index begin = task * plan.column_block;
    T* const panel = plan.keeps_b ? nullptr : b + worker * b_items(call);
    T* const sums = partial == 0 ? nullptr : partials + worker * partial;
    work(ColumnsTask<A, S>{a + copy * a_copy,
                           outs.data() + copy * block,
                           std::min(plan.row_block, m - first),
                           begin,
                           std::min(n, begin + plan.column_block),
                           first == 0,
                           {panel, false, 0, sums, width}});
  });
  return true;
}

// The rule: a block of rows is packed once for all columns; a task takes panels of
// B, and the first panel of A that meets one reads B in place and packs it on the
// way, under its own arithmetic (8 x 8 rows of 1024 x 1024, one thread: 81 -> 92 %
// of the FMA peak). A B of up to 4 MB stays packed while blocks of rows pass.
template <class A, class S>
bool by_columns(const RowsCall<A, S>& call) {
  using T = Accumulator<S>;
  const RowsPlan& plan = call.plan;
  const int nr = call.functions.columns;
  const Index kept_items = call.product.depth * nr + kPanelSlack;  // of a panel, packed whole
  T* kept = nullptr;
  if (plan.keeps_b) {
    kept = call.allocate(ceil_div(call.product.columns, nr) * kept_items);
    if (kept == nullptr) return false;
  }
  return over_columns(call, nr, [&](const ColumnsTask<A, S>& task) {
    PanelOfB<T> panel = task.panel;
    for (Index column = task.begin; column < task.end; column += nr) {
      if (plan.keeps_b) {
        panel.data = kept + column / nr * kept_items;
        panel.packed = !task.first_rows;
        panel.step = plan.depth * nr;
      }
      multiply_panel(call, task.a, task.out, task.rows, column, panel);
    }
  });
}

// The same where packed rows leave L2: they are taken part by part of the depth,
// all panels of a task for each part (2 x 64 rows of 2048 -> 8192, two threads:
// 22.6 -> 21.4 ms).
template <class A, class S>
bool by_columns_depth_first(const RowsCall<A, S>& call) {
  const RowsPlan& plan = call.plan;
  return over_columns(call, plan.column_block, [&](const ColumnsTask<A, S>& task) {
    for (Index k = 0; k < call.product.depth; k += plan.depth) {
      PanelOfB<Accumulator<S>> panel = task.panel;
      for (Index column = task.begin; column < task.end; column += call.functions.columns) {
        if (panel.partial != nullptr) panel.partial = task.panel.partial + column - task.begin;
        multiply_block(call, task.a, task.out, task.rows, column, k, panel);
      }
    }
  });
}

// A B whose columns go round no more evenly than the rows: tasks take rows, which
// they pack, and share a packed B, in chunks of columns that fit a cache.
template <class A, class S>
bool by_rows(const RowsCall<A, S>& call) {
  using T = Accumulator<S>;
  const RowsPlan& plan = call.plan;
  const Index m = call.rows, k = call.product.depth, n = call.product.columns;
  const int mr = call.functions.rows, nr = call.functions.columns;
  const Index row_blocks = ceil_div(m, plan.row_block);
  const Index chunk_panels = plan.column_chunk / nr;
  const Index chunk_tasks = row_blocks * ceil_div(plan.column_chunk, plan.column_block);
  const int workers = worker_count(call.threads, std::max(chunk_panels, chunk_tasks));
  const Index a_items = plan.row_block * plan.depth + kPanelSlack;
  const Index b_panel = nr * k + kPanelSlack;
  T* a_blocks = call.allocate(workers * a_items);
  const Index b_copy = chunk_panels * b_panel;
  T* b = call.allocate(copies(call, chunk_tasks) * b_copy);
  const Index partial = partial_items(call, plan.row_block, plan.column_block);
  T* partials = call.allocate(workers * partial);
  if (a_blocks == nullptr || b == nullptr || partials == nullptr) return false;
  std::vector<RowList<A, S>> lists(workers);

  // One pass a chunk of columns.
  std::vector<Pass> passes;
  for (Index chunk = 0; chunk < n; chunk += plan.column_chunk) {
    const Index columns = std::min(plan.column_chunk, n - chunk);
    passes.push_back({ceil_div(columns, nr), row_blocks * ceil_div(columns, plan.column_block)});
  }
  const auto pack = [&](int pass, Index panel, int copy) {
    pack_b(call, pass * plan.column_chunk + panel * nr, nr, 0, k,
           b + copy * b_copy + panel * b_panel);
  };
  pack_then_work(call, passes, pack, [&](int pass, Index task, int worker, int copy) {
    const Index chunk = pass * plan.column_chunk;
    // Neighbouring tasks share the columns of B, still warm in a shared cache.
    const Index row = task % row_blocks * plan.row_block;
    const Index column = task / row_blocks * plan.column_block;
    const Index count = std::min(plan.row_block, m - row);
    RowList<A, S>& rows = lists[worker];
    rows.fill(call.product, row, count);
    T* a = a_blocks + worker * a_items;
    for (Index first = 0; first < k; first += plan.depth) {
      Block<S> block{};
      block.rows = count;
      block.columns = std::min(plan.column_block, std::min(plan.column_chunk, n - chunk) - column);
      block.depth = std::min(plan.depth, k - first);
      pack_a(call, rows.a.data(), count, first, block.depth, a);
      block.a = a;
      block.a_stride = mr * block.depth;
      block.b = b + copy * b_copy + column / nr * b_panel + first * nr;
      block.b_stride = b_panel;
      block.partial = partials + worker * partial;
      block.partial_step = plan.column_block;
      block.out = rows.out.data();
      block.column = chunk + column;
      block.accumulate = first == 0 ? Accumulate::kStart : Accumulate::kContinue;
      block.finish = first + block.depth == k;
      call.functions.multiply(block);
    }
  });
  return true;
}

}  // namespace

template <class A, class S>
constexpr bool kConverts = !std::is_same_v<A, Accumulator<S>> || !std::is_same_v<S, Accumulator<S>>;

template <class A, class S>
RowsPlan plan_of(const Isa& isa, const Workers& workers, RowsShape shape) {
  const IsaFunctions<S>& functions = functions_of<S>(isa);
  const MicroShape micro{functions.rows, functions.columns, functions.lanes,
                         static_cast<int>(sizeof(Accumulator<S>))};
  // What has to be converted cannot be read where it lies: as if no two rows
  // followed each other.
  if (kConverts<A, S>) shape.segment_rows = 0;
  return plan_rows(shape, {micro, caches(), workers});
}

template <class A, class S>
bool rows_product(const Context& context, const RowsProduct<A, S>& product) {
  const Index rows = rows_of(product.segments);
  if (rows == 0 || product.columns == 0) return true;
  const IsaFunctions<S>& functions = functions_of<S>(*context.isa);
  const RowsPlan plan =
      plan_of<A, S>(*context.isa, workers_of(context),
                    {rows, product.depth, product.columns,
                     rows / static_cast<Index>(product.segments.size()), product.b_transposed});
  const RowsCall<A, S> call{context,
                            functions_of<A>(*context.isa),
                            functions,
                            product,
                            rows,
                            plan,
                            plan.parallel ? context.threads : nullptr};
  if (product.depth == 0) return no_depth(call);
  switch (plan.path) {
    case RowsPath::kInPlace:
      if constexpr (!kConverts<A, S>) return in_place(call);
      break;
    case RowsPath::kFlipped:
      if constexpr (!kConverts<A, S>) return flipped(call);
      break;
    case RowsPath::kStream: return stream_rows(call);
    case RowsPath::kByColumns:
      return plan.depth_first ? by_columns_depth_first(call) : by_columns(call);
    case RowsPath::kByRows: return by_rows(call);
  }
  return false;
}

#define SHARED_DENSE_INSTANTIATE(A, S)                                    \
  template RowsPlan plan_of<A, S>(const Isa&, const Workers&, RowsShape); \
  template bool rows_product(const Context&, const RowsProduct<A, S>&);
SHARED_DENSE_INSTANTIATE(float, float)
SHARED_DENSE_INSTANTIATE(double, double)
SHARED_DENSE_INSTANTIATE(BFloat16, BFloat16)
SHARED_DENSE_INSTANTIATE(float, BFloat16)
SHARED_DENSE_INSTANTIATE(Half, Half)
SHARED_DENSE_INSTANTIATE(float, Half)
#undef SHARED_DENSE_INSTANTIATE

}  // namespace shared_dense
