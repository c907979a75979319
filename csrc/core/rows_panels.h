// What the ways through a rows product share: the call, its rows, its packed
// panels, and a panel of columns multiplied.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "core/products.h"

namespace shared_dense {

// What one call has to know everywhere.
template <class A, class S>
struct RowsCall {
  using T = Accumulator<S>;

  const Context& context;
  const IsaFunctions<A>& a_functions;  // to pack A
  const IsaFunctions<S>& functions;    // for all else
  const RowsProduct<A, S>& product;
  const Index rows;
  const RowsPlan plan;
  ThreadPool* const threads;

  T* allocate(Index items) const {
    return static_cast<T*>(context.scratch->allocate((items + kPanelSlack) * sizeof(T)));
  }
};

// Where row `row` of a segment goes.
template <class A, class S>
OutputRow<S> output_row(const RowsSegment<A, S>& segment, Index row, Index columns) {
  S* const z = segment.pre_activation;
  return {segment.out + row * columns, z == nullptr ? nullptr : z + row * columns, segment.bias,
          segment.activation};
}

// The rows of one block, in the two lists that packing and multiplying want.
template <class A, class S>
struct RowList {
  std::vector<const A*> a;
  std::vector<OutputRow<S>> out;

  void fill(const RowsProduct<A, S>& product, Index first, Index count) {
    a.clear();
    out.clear();
    a.reserve(count);
    out.reserve(count);
    visit_rows(product.segments, first, count,
               [&](const RowsSegment<A, S>& segment, Index from, Index n) {
                 for (Index row = from; row < from + n; ++row) {
                   a.push_back(segment.in + row * product.depth);
                   out.push_back(output_row(segment, row, product.columns));
                 }
               });
  }
};

// Packs k in [first, first + depth) of `width` columns of B from `column` on.
template <class A, class S>
void pack_b(const RowsCall<A, S>& call, Index column, int width, Index first, Index depth,
            Accumulator<S>* to) {
  const RowsProduct<A, S>& product = call.product;
  const int count = static_cast<int>(std::min<Index>(width, product.columns - column));
  constexpr Index step = 64;  // no fewer than the columns of any micro-kernel
  const S* rows[step];
  if (product.b_transposed) {
    for (int c = 0; c < count; ++c) rows[c] = product.b + (column + c) * product.depth;
    call.functions.pack_transposed(rows, count, width, first, depth, to);
    return;
  }
  for (Index k = 0; k < depth; k += step) {
    const Index here = std::min(step, depth - k);
    for (Index i = 0; i < here; ++i) rows[i] = product.b + (first + k + i) * product.columns;
    call.functions.pack_straight(rows, count, width, column, product.columns - column, here,
                                 to + k * width, 0);
  }
}

// Packs k in [first, first + depth) of `count` rows of A, in panels of MR.
template <class A, class S>
void pack_a(const RowsCall<A, S>& call, const A* const* rows, Index count, Index first, Index depth,
            Accumulator<S>* to) {
  const int mr = call.functions.rows;
  for (Index r = 0; r < count; r += mr) {
    const int here = static_cast<int>(std::min<Index>(mr, count - r));
    call.a_functions.pack_transposed(rows + r, here, mr, first, depth, to + r * depth);
  }
}

template <class A, class S>
Index a_stride(const RowsCall<A, S>& call) {
  return call.functions.rows * call.product.depth + kPanelSlack;
}

// Packs one panel of the block of rows [first, first + count), whole, and lists
// where its results go. Panels that different workers pack have room to run
// over, hence the stride.
template <class A, class S>
void pack_panel_of_a(const RowsCall<A, S>& call, Index first, Index count, Index panel,
                     Accumulator<S>* a, OutputRow<S>* out) {
  const Index row = panel * call.functions.rows, k = call.product.depth;
  RowList<A, S> rows;
  rows.fill(call.product, first + row, std::min<Index>(call.functions.rows, count - row));
  std::copy(rows.out.begin(), rows.out.end(), out + row);
  pack_a(call, rows.a.data(), static_cast<Index>(rows.a.size()), 0, k, a + panel * a_stride(call));
}

// How often an operand that all tasks read is packed.
template <class A, class S>
int copies(const RowsCall<A, S>& call, Index tasks) {
  return call.plan.own_copies ? worker_count(call.threads, tasks) : 1;
}

// A stretch of a product whose tasks all read an operand packed in `panels`.
struct Pass {
  Index panels, tasks;
};

// Pass after pass, calls pack(pass, panel, copy) for all panels, then
// work(pass, task, worker, copy) for all tasks: in two stages that all workers
// share or, where the plan says so, in one, every worker packing its own copy
// before its first task.
template <class A, class S, class Pack, class Work>
void pack_then_work(const RowsCall<A, S>& call, const std::vector<Pass>& passes, const Pack& pack,
                    const Work& work) {
  if (call.plan.own_copies) {
    std::vector<Index> tasks;
    for (const Pass& pass : passes) tasks.push_back(pass.tasks);
    std::vector<int> packed(copies(call, tasks.front()), -1);  // the pass it was packed for
    parallel_stages(call.threads, tasks, [&](int pass, Index task, int worker) {
      if (packed[worker] != pass) {
        for (Index panel = 0; panel < passes[pass].panels; ++panel) pack(pass, panel, worker);
        packed[worker] = pass;
      }
      work(pass, task, worker, worker);
    });
    return;
  }
  std::vector<Index> items;
  for (const Pass& pass : passes) {
    items.push_back(pass.panels);
    items.push_back(pass.tasks);
  }
  parallel_stages(call.threads, items, [&](int stage, Index item, int worker) {
    if (stage % 2 == 0) {
      pack(stage / 2, item, 0);
    } else {
      work(stage / 2, item, worker, 0);
    }
  });
}

// Room for a panel of B that is packed block by block, each over the last.
template <class A, class S>
Index b_items(const RowsCall<A, S>& call) {
  return call.plan.depth * call.functions.columns + kPanelSlack;
}

// Room for the unfinished sums of `rows` x `columns`, which C cannot hold where
// it is stored in another type; 0 where there is one block of depth or C can.
template <class A, class S>
Index partial_items(const RowsCall<A, S>& call, Index rows, Index columns) {
  const bool held = std::is_same_v<S, Accumulator<S>> || call.plan.depth >= call.product.depth;
  return held ? 0 : rows * columns;
}

// Where the panel of B that a product needs is to be found.
template <class T>
struct PanelOfB {
  T* data;
  bool packed;  // already; else it is packed on the way
  Index step;   // items from one block of depth to the next; 0: each over the last
  T* partial;   // see Block
  Index partial_step;
};

// All rows of a block times one block of k, from `first` on, of the panel of B
// that starts at `column`.
template <class A, class S>
void multiply_block(const RowsCall<A, S>& call, const Accumulator<S>* a, const OutputRow<S>* out,
                    Index rows, Index column, Index first, const PanelOfB<Accumulator<S>>& b) {
  using T = Accumulator<S>;
  const Index k = call.product.depth;
  const int nr = call.functions.columns;
  T* data = b.data + first / call.plan.depth * b.step;
  Block<S> block{};
  block.rows = rows;
  block.columns = std::min<Index>(nr, call.product.columns - column);
  block.depth = std::min(call.plan.depth, k - first);
  bool packs = !b.packed;
  if constexpr (std::is_same_v<S, T>) {
    if (packs && !call.product.b_transposed && block.columns == nr) {
      block.b_source = call.product.b + first * call.product.columns + column;
      block.b_step = call.product.columns;
      packs = false;
    }
  }
  if (packs) pack_b(call, column, nr, first, block.depth, data);
  block.a = a + first * call.functions.rows;
  block.a_stride = a_stride(call);
  block.b = data;
  block.partial = b.partial;
  block.partial_step = b.partial_step;
  block.out = out;
  block.column = column;
  block.accumulate = first == 0 ? Accumulate::kStart : Accumulate::kContinue;
  block.finish = first + block.depth == k;
  call.functions.multiply(block);
}

// All of k.
template <class A, class S>
void multiply_panel(const RowsCall<A, S>& call, const Accumulator<S>* a, const OutputRow<S>* out,
                    Index rows, Index column, const PanelOfB<Accumulator<S>>& b) {
  for (Index first = 0; first < call.product.depth; first += call.plan.depth) {
    multiply_block(call, a, out, rows, column, first, b);
  }
}

}  // namespace shared_dense
