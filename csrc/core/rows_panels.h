// What the ways through a rows product share: the call, its rows, its packed
// panels, and a panel of columns multiplied.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "core/products.h"

namespace shared_dense {

inline Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

// What one call has to know everywhere.
template <class A, class S>
struct RowsCall {
  using T = Accumulator<S>;

  const Context& context;
  const KernelSet<A>& a_kernels;  // to pack A
  const KernelSet<S>& kernels;    // for all else
  const RowsProduct<A, S>& product;
  const RowsPlan plan;
  ThreadPool* const threads;

  T* allocate(Index items) const {
    return static_cast<T*>(context.scratch->allocate((items + kPanelSlack) * sizeof(T)));
  }
};

// The rows of one block, in the two lists that packing and multiplying want.
template <class A, class S>
struct RowList {
  std::vector<const A*> a;
  std::vector<OutputRow<S>> out;

  void fill(const RowsProduct<A, S>& product, Index first, Index count) {
    a.clear();
    out.clear();
    product.runs(first, count, [&](const Run<A, S>& run) {
      for (Index row = 0; row < run.rows; ++row) {
        S* kept = run.out.pre_activation;
        a.push_back(run.a + row * product.depth);
        out.push_back({run.out.y + row * product.columns,
                       kept == nullptr ? nullptr : kept + row * product.columns, run.out.bias,
                       run.out.activation});
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
  if (product.transposed) {
    for (int c = 0; c < count; ++c) rows[c] = product.b + (column + c) * product.depth;
    call.kernels.pack_transposed(rows, count, width, first, depth, to);
    return;
  }
  for (Index k = 0; k < depth; k += step) {
    const Index here = std::min(step, depth - k);
    for (Index i = 0; i < here; ++i) rows[i] = product.b + (first + k + i) * product.columns;
    call.kernels.pack_straight(rows, count, width, column, product.columns - column, here,
                               to + k * width, 0);
  }
}

// Packs k in [first, first + depth) of `count` rows of A, in panels of MR.
template <class A, class S>
void pack_a(const RowsCall<A, S>& call, const A* const* rows, Index count, Index first, Index depth,
            Accumulator<S>* to) {
  const int mr = call.kernels.rows;
  for (Index r = 0; r < count; r += mr) {
    const int here = static_cast<int>(std::min<Index>(mr, count - r));
    call.a_kernels.pack_transposed(rows + r, here, mr, first, depth, to + r * depth);
  }
}

template <class A, class S>
Index a_stride(const RowsCall<A, S>& call) {
  return call.kernels.rows * call.product.depth + kPanelSlack;
}

// Packs one panel of the block of rows [first, first + count), whole, and lists
// where its results go. Panels that different workers pack have room to run
// over, hence the stride.
template <class A, class S>
void pack_panel_of_a(const RowsCall<A, S>& call, Index first, Index count, Index panel,
                     Accumulator<S>* a, OutputRow<S>* out) {
  const Index row = panel * call.kernels.rows, k = call.product.depth;
  RowList<A, S> rows;
  rows.fill(call.product, first + row, std::min<Index>(call.kernels.rows, count - row));
  std::copy(rows.out.begin(), rows.out.end(), out + row);
  pack_a(call, rows.a.data(), static_cast<Index>(rows.a.size()), 0, k, a + panel * a_stride(call));
}

// Room for a panel of B that is packed block by block, each over the last.
template <class A, class S>
Index b_items(const RowsCall<A, S>& call) {
  return call.plan.depth * call.kernels.columns + kPanelSlack;
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
};

// All rows of a block times the panel of B that starts at `column`.
template <class A, class S>
void multiply_panel(const RowsCall<A, S>& call, const Accumulator<S>* a,
                    const std::vector<OutputRow<S>>& out, Index rows, Index column,
                    const PanelOfB<Accumulator<S>>& b) {
  using T = Accumulator<S>;
  const Index k = call.product.depth;
  const int nr = call.kernels.columns;
  T* data = b.data;
  for (Index first = 0; first < k; first += call.plan.depth, data += b.step) {
    Block<S> block{};
    block.rows = rows;
    block.columns = std::min<Index>(nr, call.product.columns - column);
    block.depth = std::min(call.plan.depth, k - first);
    bool packs = !b.packed;
    if constexpr (std::is_same_v<S, T>) {
      if (packs && !call.product.transposed && block.columns == nr) {
        block.b_source = call.product.b + first * call.product.columns + column;
        block.b_step = call.product.columns;
        packs = false;
      }
    }
    if (packs) pack_b(call, column, nr, first, block.depth, data);
    block.a = a + first * call.kernels.rows;
    block.a_stride = a_stride(call);
    block.b = data;
    block.partial = b.partial;
    block.partial_step = nr;
    block.out = out.data();
    block.column = column;
    block.accumulate = first == 0 ? Accumulate::kStart : Accumulate::kContinue;
    block.finish = first + block.depth == k;
    call.kernels.multiply(block);
  }
}

}  // namespace shared_dense
