#include "core/shared_matmul.h"

#include <algorithm>

#include "core/products.h"

namespace shared_dense {
namespace {

// Elements of dZ formed by one task: enough work to hide taking the task.
constexpr Index kElementsPerTask = Index{1} << 13;

// What forming or summing an element costs, in multiply-adds: it comes from a
// cache far away.
constexpr Index kElementCost = 16;

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
  const bool alone = rows * units * kElementCost < workers_of(context).worth;
  parallel_for(
      alone ? nullptr : context.threads, static_cast<Index>(pieces.size()), [&](Index item, int) {
        const Piece& piece = pieces[item];
        const BackwardSegment<T>& segment = *piece.segment;
        kernels.differentiate(segment.activation, segment.dy + piece.first,
                              segment.saved + piece.first, piece.count, piece.dz + piece.first);
      });
  return true;
}

// One bias gradient: the column sums of some segments' dZ, stacked.
template <class T>
struct ColumnSum {
  T* sum;  // [units]
  std::vector<std::size_t> segments;
};

// Every chunk of rows is summed apart, then the chunks are added in order.
template <class T>
bool sum_columns(const Context& context, const KernelSet<T>& kernels, Index units,
                 const std::vector<BackwardSegment<T>>& segments, const std::vector<const T*>& dz,
                 const std::vector<ColumnSum<T>>& sums) {
  constexpr Index columns_per_task = 256;
  struct Piece {
    std::size_t sum;
    Index first, column;
    T* part;
  };
  std::vector<Stack> stacks;
  std::vector<Piece> pieces;
  Index chunks = 0, rows = 0;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    std::vector<BackwardSegment<T>> own;
    for (const std::size_t s : sums[i].segments) own.push_back(segments[s]);
    stacks.emplace_back(own);
    chunks += (stacks[i].rows() + kRowChunk - 1) / kRowChunk;
    rows += stacks[i].rows();
  }
  T* parts =
      static_cast<T*>(context.scratch->allocate(std::max<Index>(chunks * units, 1) * sizeof(T)));
  if (parts == nullptr) return false;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    for (Index first = 0; first < stacks[i].rows(); first += kRowChunk, parts += units) {
      for (Index column = 0; column < units; column += columns_per_task) {
        pieces.push_back({i, first, column, parts});
      }
    }
  }
  const bool alone = rows * units * kElementCost < workers_of(context).worth;
  parallel_for(alone ? nullptr : context.threads, static_cast<Index>(pieces.size()),
               [&](Index item, int) {
                 const Piece& piece = pieces[item];
                 const Stack& stack = stacks[piece.sum];
                 const Index count = std::min(kRowChunk, stack.rows() - piece.first);
                 const T* row_of[kRowChunk];
                 stack.visit(piece.first, count, [&](Index i, std::size_t s, Index row, Index n) {
                   const T* from = dz[sums[piece.sum].segments[s]] + row * units;
                   for (Index j = 0; j < n; ++j) row_of[i + j] = from + j * units;
                 });
                 kernels.sum_rows(row_of, count, piece.column,
                                  std::min(columns_per_task, units - piece.column),
                                  piece.part + piece.column);
               });
  for (const ColumnSum<T>& sum : sums) std::fill_n(sum.sum, units, T(0));
  for (const Piece& piece : pieces) {
    T* sum = sums[piece.sum].sum;
    const Index end = std::min(units, piece.column + columns_per_task);
    for (Index c = piece.column; c < end; ++c) sum[c] += piece.part[c];
  }
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

  std::vector<ColumnSum<T>> sums;
  if (outputs.dbias != nullptr) {
    sums.push_back({outputs.dbias, {}});
    for (std::size_t i = 0; i < segments.size(); ++i) sums[0].segments.push_back(i);
  }
  for (std::size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].dbias != nullptr) sums.push_back({segments[i].dbias, {i}});
  }
  return sums.empty() || sum_columns(context, set, units, segments, dz, sums);
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
