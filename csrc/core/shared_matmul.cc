#include "core/shared_matmul.h"

#include <algorithm>
#include <type_traits>

#include "core/bias_users.h"
#include "core/column_sums.h"
#include "core/products.h"

namespace shared_dense {
namespace {

// Elements of dZ formed by one task: enough work to hide taking the task.
constexpr Index kElementsPerTask = Index{1} << 13;

// What forming or summing an element costs, in multiply-adds: it comes from a
// cache far away.
constexpr Index kElementCost = 16;

// dZ = dY * f'(.), written once, in the accumulator's type, and read by all
// three backward products. A linear segment whose dY is of that type needs
// none: its dZ is its dY.
template <class S>
bool needs_dz(const BackwardSegment<S>& segment) {
  return !std::is_same_v<S, Accumulator<S>> || segment.activation != Activation::kLinear;
}

template <class S>
bool form_dz(const Context& context, const KernelSet<S>& kernels, Index units,
             const std::vector<BackwardSegment<S>>& segments,
             std::vector<const Accumulator<S>*>* dz) {
  using T = Accumulator<S>;
  Index rows = 0;
  for (const BackwardSegment<S>& segment : segments) {
    if (needs_dz(segment)) rows += segment.rows;
  }
  T* memory = nullptr;
  if (rows * units > 0) {
    memory = static_cast<T*>(context.scratch->allocate(rows * units * sizeof(T)));
    if (memory == nullptr) return false;
  }
  // All segments are cut into pieces of one list: many short ones together are
  // as much work as one long one.
  struct Piece {
    const BackwardSegment<S>* segment;
    T* dz;
    Index first, count;
  };
  std::vector<Piece> pieces;
  for (const BackwardSegment<S>& segment : segments) {
    if (!needs_dz(segment)) {
      if constexpr (std::is_same_v<S, T>) dz->push_back(segment.dy);
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
  parallel_for(alone ? nullptr : context.threads, static_cast<Index>(pieces.size()),
               [&](Index item, int) {
                 const Piece& piece = pieces[item];
                 const BackwardSegment<S>& segment = *piece.segment;
                 const bool linear = segment.activation == Activation::kLinear;
                 kernels.differentiate(segment.activation, segment.dy + piece.first,
                                       linear ? nullptr : segment.saved + piece.first, piece.count,
                                       piece.dz + piece.first);
               });
  return true;
}

}  // namespace

template <class S>
bool forward(const Context& context, const Kernel<S>& kernel,
             const std::vector<ForwardSegment<S>>& segments) {
  const Stack stack(segments);
  RowsProduct<S, S> product;
  product.rows = stack.rows();
  product.segments = static_cast<Index>(segments.size());
  product.depth = kernel.in_features;
  product.columns = kernel.units;
  product.b = kernel.data;
  product.transposed = kernel.transposed;
  product.runs = [&](Index first, Index count, const auto& visit) {
    stack.visit(first, count, [&](Index, std::size_t i, Index row, Index n) {
      const ForwardSegment<S>& segment = segments[i];
      S* kept = segment.pre_activation;
      visit({n,
             segment.x + row * kernel.in_features,
             {segment.y + row * kernel.units, kept == nullptr ? nullptr : kept + row * kernel.units,
              segment.bias, segment.activation}});
    });
  };
  return rows_product(context, product);
}

template <class S>
bool backward(const Context& context, const Kernel<S>& kernel,
              const std::vector<BackwardSegment<S>>& all, S* dkernel) {
  using T = Accumulator<S>;
  const KernelSet<S>& set = kernels<S>(*context.isa);
  const Index in_features = kernel.in_features, units = kernel.units;
  const auto trains = [&](const BackwardSegment<S>& segment) {
    return dkernel != nullptr && segment.trains_kernel;
  };
  std::vector<BackwardSegment<S>> segments;  // those whose dZ anybody reads
  for (const BackwardSegment<S>& segment : all) {
    if (segment.dx != nullptr || segment.dbias != nullptr || trains(segment)) {
      segments.push_back(segment);
    }
  }
  std::vector<const T*> dz;
  if (!form_dz(context, set, units, segments, &dz)) return false;

  // Only the segments that take part in a product are stacked for it.
  std::vector<BackwardSegment<S>> wanted, training;
  std::vector<const T*> wanted_dz, training_dz;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].dx != nullptr) {
      wanted.push_back(segments[i]);
      wanted_dz.push_back(dz[i]);
    }
    if (trains(segments[i])) {
      training.push_back(segments[i]);
      training_dz.push_back(dz[i]);
    }
  }
  if (!wanted.empty()) {
    const Stack stack(wanted);
    RowsProduct<T, S> product;
    product.rows = stack.rows();
    product.segments = static_cast<Index>(wanted.size());
    product.depth = units;
    product.columns = in_features;
    product.b = kernel.data;
    product.transposed = !kernel.transposed;
    product.runs = [&](Index first, Index count, const auto& visit) {
      stack.visit(first, count, [&](Index, std::size_t i, Index row, Index n) {
        visit({n,
               wanted_dz[i] + row * units,
               {wanted[i].dx + row * in_features, nullptr, nullptr, Activation::kLinear}});
      });
    };
    if (!rows_product(context, product)) return false;
  }

  // Rows without bytes are not cut in chunks: there may be any number of them.
  if (dkernel != nullptr && in_features > 0 && units > 0) {
    const Stack stack(training);
    const auto gather = [&](Index first, Index count, const S** x_rows, const T** dz_rows) {
      stack.visit(first, count, [&](Index i, std::size_t s, Index row, Index n) {
        for (Index j = 0; j < n; ++j) {
          x_rows[i + j] = training[s].x + (row + j) * in_features;
          dz_rows[i + j] = training_dz[s] + (row + j) * units;
        }
      });
    };
    bool done;
    if (kernel.transposed) {
      SumProduct<T, S, S> product{units, stack.rows(), in_features, row_chunks(training),
                                  {},    dkernel};
      product.gather = [&](Index first, Index count, const T** dz_rows, const S** x_rows) {
        gather(first, count, x_rows, dz_rows);
      };
      done = sum_product(context, product);
    } else {
      done = sum_product(context, SumProduct<S, T, S>{in_features, stack.rows(), units,
                                                      row_chunks(training), gather, dkernel});
    }
    if (!done) return false;
  }

  std::vector<ColumnSum<S>> sums;
  for (const BiasUsers<S>& users : bias_users(segments)) {
    sums.push_back({users.sum, {}});
    for (const std::size_t i : users.segments) {
      sums.back().inputs.push_back({dz[i], segments[i].rows});
    }
  }
  return column_sums(context, units, sums);
}

#define SHARED_DENSE_INSTANTIATE(S)                                                                \
  template bool forward(const Context&, const Kernel<S>&, const std::vector<ForwardSegment<S>>&);  \
  template bool backward(const Context&, const Kernel<S>&, const std::vector<BackwardSegment<S>>&, \
                         S*);
SHARED_DENSE_INSTANTIATE(float)
SHARED_DENSE_INSTANTIATE(double)
SHARED_DENSE_INSTANTIATE(BFloat16)
SHARED_DENSE_INSTANTIATE(Half)
#undef SHARED_DENSE_INSTANTIATE

}  // namespace shared_dense
