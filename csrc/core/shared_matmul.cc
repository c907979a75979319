#include "core/shared_matmul.h"

#include <algorithm>

#include "core/products.h"

namespace shared_dense {
namespace {

// Elements of dZ formed by one task: enough work to hide taking the task.
constexpr Index kElementsPerTask = Index{1} << 14;

// dZ = dY * f'(.), written once and read by all three backward products. A
// linear segment needs none: its dZ is its dY.
template <class T>
bool form_dz(const Context& context, const KernelSet<T>& kernels, Index units,
             const std::vector<BackwardSegment<T>>& segments, std::vector<const T*>* dz) {
  Index rows = 0;
  for (const BackwardSegment<T>& segment : segments) {
    if (segment.activation != Activation::kLinear) rows += segment.rows;
  }
  T* memory = nullptr;
  if (rows * units > 0) {
    memory = static_cast<T*>(context.scratch->allocate(rows * units * sizeof(T)));
    if (memory == nullptr) return false;
  }
  // All segments are cut into pieces of one list: many short ones together are
  // as much work as one long one.
  struct Piece {
    const BackwardSegment<T>* segment;
    T* dz;
    Index first, count;
  };
  std::vector<Piece> pieces;
  for (const BackwardSegment<T>& segment : segments) {
    if (segment.activation == Activation::kLinear) {
      dz->push_back(segment.dy);
      continue;
    }
    dz->push_back(memory);
    const Index count = segment.rows * units;
    for (Index first = 0; first < count; first += kElementsPerTask) {
      pieces.push_back({&segment, memory, first, std::min(kElementsPerTask, count - first)});
    }
    memory += count;
  }
  ThreadPool* threads = rows * units < 4 * kElementsPerTask ? nullptr : context.threads;
  parallel_for(threads, static_cast<Index>(pieces.size()), [&](Index item, int) {
    const Piece& piece = pieces[item];
    const BackwardSegment<T>& segment = *piece.segment;
    kernels.differentiate(segment.activation, segment.dy + piece.first, segment.saved + piece.first,
                          piece.count, piece.dz + piece.first);
  });
  return true;
}

// sum[units] = column sums of the stacked rows of `dz`, in chunks.
template <class T>
bool sum_columns(const Context& context, const KernelSet<T>& kernels, Index units,
                 const std::vector<const T*>& dz, const std::vector<Index>& rows, T* sum) {
  struct Rows {
    Index rows;
  };
  std::vector<Rows> segments;
  for (const Index count : rows) segments.push_back({count});
  const Stack stack(segments);
  T* part = static_cast<T*>(context.scratch->allocate(std::max<Index>(units, 1) * sizeof(T)));
  if (part == nullptr) return false;

  std::fill_n(sum, units, T(0));
  constexpr Index columns_per_task = 256;
  const Index tasks = (units + columns_per_task - 1) / columns_per_task;
  ThreadPool* threads = units * stack.rows() > 8 * kElementsPerTask ? context.threads : nullptr;
  parallel_for(threads, tasks, [&](Index task, int) {
    const Index column = task * columns_per_task;
    const Index columns = std::min(columns_per_task, units - column);
    const T* row_of[kRowChunk];
    for (Index first = 0; first < stack.rows(); first += kRowChunk) {
      const Index count = std::min(kRowChunk, stack.rows() - first);
      stack.visit(first, count, [&](Index i, std::size_t segment, Index row, Index n) {
        for (Index j = 0; j < n; ++j) row_of[i + j] = dz[segment] + (row + j) * units;
      });
      kernels.sum_rows(row_of, count, column, columns, part + column);
      for (Index c = column; c < column + columns; ++c) sum[c] += part[c];
    }
  });
  return true;
}

}  // namespace

template <class T>
bool forward(const Context& context, const Kernel<T>& kernel,
             const std::vector<ForwardSegment<T>>& segments) {
  const Stack stack(segments);
  RowsProduct<T> product;
  product.rows = stack.rows();
  product.segments = static_cast<Index>(segments.size());
  product.depth = kernel.in_features;
  product.columns = kernel.units;
  product.b = kernel.data;
  product.transposed = kernel.transposed;
  product.runs = [&](Index first, Index count, const auto& visit) {
    stack.visit(first, count, [&](Index, std::size_t s, Index row, Index n) {
      const ForwardSegment<T>& segment = segments[s];
      T* kept = segment.pre_activation;
      visit({n,
             segment.x + row * kernel.in_features,
             {segment.y + row * kernel.units, kept == nullptr ? nullptr : kept + row * kernel.units,
              segment.bias, segment.activation}});
    });
  };
  return rows_product(context, kernels<T>(*context.isa), product);
}

template <class T>
bool backward(const Context& context, const Kernel<T>& kernel,
              const std::vector<BackwardSegment<T>>& segments, const BackwardOutputs<T>& outputs) {
  const KernelSet<T>& set = kernels<T>(*context.isa);
  const Index in_features = kernel.in_features, units = kernel.units;
  std::vector<const T*> dz;
  if (!form_dz(context, set, units, segments, &dz)) return false;

  // Input gradients: only the segments that want one are stacked.
  std::vector<BackwardSegment<T>> wanted;
  std::vector<const T*> wanted_dz;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].dx == nullptr) continue;
    wanted.push_back(segments[i]);
    wanted_dz.push_back(dz[i]);
  }
  if (!wanted.empty()) {
    const Stack stack(wanted);
    RowsProduct<T> product;
    product.rows = stack.rows();
    product.segments = static_cast<Index>(wanted.size());
    product.depth = units;
    product.columns = in_features;
    product.b = kernel.data;
    product.transposed = !kernel.transposed;
    product.runs = [&](Index first, Index count, const auto& visit) {
      stack.visit(first, count, [&](Index, std::size_t s, Index row, Index n) {
        visit({n,
               wanted_dz[s] + row * units,
               {wanted[s].dx + row * in_features, nullptr, nullptr, Activation::kLinear}});
      });
    };
    if (!rows_product(context, set, product)) return false;
  }

  if (outputs.dkernel != nullptr) {
    const Stack stack(segments);
    SumProduct<T> product;
    product.rows = kernel.transposed ? units : in_features;
    product.columns = kernel.transposed ? in_features : units;
    product.reduction = stack.rows();
    product.c = outputs.dkernel;
    product.gather = [&](Index first, Index count, const T** a, const T** b) {
      const T** x_rows = kernel.transposed ? b : a;
      const T** dz_rows = kernel.transposed ? a : b;
      stack.visit(first, count, [&](Index i, std::size_t s, Index row, Index n) {
        for (Index j = 0; j < n; ++j) {
          x_rows[i + j] = segments[s].x + (row + j) * in_features;
          dz_rows[i + j] = dz[s] + (row + j) * units;
        }
      });
    };
    if (!sum_product(context, set, product)) return false;
  }

  if (outputs.dbias != nullptr) {
    std::vector<Index> rows;
    for (const BackwardSegment<T>& segment : segments) rows.push_back(segment.rows);
    if (!sum_columns(context, set, units, dz, rows, outputs.dbias)) return false;
  }
  for (std::size_t i = 0; i < segments.size(); ++i) {
    T* dbias = segments[i].dbias;
    if (dbias == nullptr) continue;
    if (!sum_columns(context, set, units, {dz[i]}, {segments[i].rows}, dbias)) return false;
  }
  return true;
}

template bool forward(const Context&, const Kernel<float>&,
                      const std::vector<ForwardSegment<float>>&);
template bool forward(const Context&, const Kernel<double>&,
                      const std::vector<ForwardSegment<double>>&);
template bool backward(const Context&, const Kernel<float>&,
                       const std::vector<BackwardSegment<float>>&, const BackwardOutputs<float>&);
template bool backward(const Context&, const Kernel<double>&,
                       const std::vector<BackwardSegment<double>>&, const BackwardOutputs<double>&);

}  // namespace shared_dense
