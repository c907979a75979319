#include <algorithm>
#include <string>
#include <type_traits>
#include <vector>

#include "core/bias_users.h"
#include "core/stack.h"
#include "cuda/elementwise.h"
#include "cuda/explain.h"
#include "cuda/hopper.h"
#include "cuda/plan.h"
#include "cuda/product.h"
#include "cuda/shared_matmul.h"

namespace shared_dense::cuda {
namespace {

constexpr const char* kTooLarge = "more tiles than a grid of blocks can have";

// Tells whoever asked how a product runs.
template <class S, class Plan>
void say(const Context& context, const char* product, const Plan& plan) {
  if (context.said == nullptr) return;
  *context.said +=
      std::string("  ") + product + ": " + explain(plan, arithmetic<S>(context.allow_tf32)) + "\n";
}

// Whether rows of `length` items from `p` on can be moved in vectors of `bytes`.
template <class S>
bool by_vectors(const S* p, Index length, Index bytes = 16) {
  return aligned(p, bytes) && length * static_cast<Index>(sizeof(S)) % bytes == 0;
}

// Multiprocessors of a device on which wgmma makes products of matrices [k, n];
// 0: mma.sync or multiply-adds do.
template <class S>
int hopper_multiprocessors(Index k, Index n) {
  return kHasHopper<S> && hopper_takes(k, n) ? sm90_multiprocessors() : 0;
}

template <class S>
const char* rows_product(const Context& context, const char* name, const RowsProduct<S>& product) {
  const S* const b = product.b;
  const bool b_transposed = product.b_transposed;
  const Index depth = product.depth, columns = product.columns;
  if (product.segments.empty() || columns == 0) return nullptr;
  RowsProblem<S> problem;
  problem.b = b;
  problem.rows = rows_of(product.segments);
  problem.depth = depth;
  problem.columns = columns;
  if (!fits_a_grid(problem.rows, columns)) return kTooLarge;
  int multiprocessors = hopper_multiprocessors<S>(depth, columns);
  TensorMap w;
  if (multiprocessors > 0 &&
      !(aligned(b, 16) &&
        make_tensor_map(&w, b, b_transposed ? depth : columns, b_transposed ? columns : depth))) {
    multiprocessors = 0;
  }
  const RowsPlan plan = multiprocessors > 0 ? plan_rows_hopper(problem.rows, columns)
                                            : plan_rows(problem.rows, columns, kHasLarge<S>);
  say<S>(context, name, plan);
  problem.order = plan.order;
  problem.b_by_vectors = by_vectors(b, b_transposed ? depth : columns);
  problem.a_by_vectors = problem.c_by_vectors = true;
  // What a thread stores at a time.
  const Index items = multiprocessors > 0 ? kHopperFinished : kFinished;
  const Index stored = std::min<Index>(16, items * sizeof(S));
  for (const RowsSegment<S>& s : product.segments) {
    problem.a_by_vectors &= by_vectors(s.in, depth);
    problem.c_by_vectors &= columns % items == 0 && aligned(s.out, stored) &&
                            (s.pre_activation == nullptr || aligned(s.pre_activation, stored)) &&
                            (s.bias == nullptr || aligned(s.bias, stored));
  }
  const char* const error =
      fill(&problem.segments, product.segments, context.scratch, context.stream);
  if (error != nullptr) return error;
  if constexpr (kHasHopper<S>) {
    if (multiprocessors > 0) {
      return launch_rows_hopper(problem, w, b_transposed, plan.tile, multiprocessors,
                                context.stream);
    }
  }
  if constexpr (std::is_same_v<S, float>) {
    if (context.allow_tf32)
      return launch_rows<Tf32>(problem, b_transposed, plan.tile, context.stream);
  }
  return launch_rows<S>(problem, b_transposed, plan.tile, context.stream);
}

template <class S>
const char* start_sum(const Context& context, const SumProblem<S>& problem, const SumPlan& plan,
                      int multiprocessors) {
  if constexpr (kHasHopper<S>) {
    if (multiprocessors > 0) {
      return launch_sum_hopper(problem, plan.splits, plan.tile, multiprocessors, context.stream);
    }
  }
  if constexpr (std::is_same_v<S, float>) {
    if (context.allow_tf32) {
      return launch_sum<Tf32>(problem, plan.splits, plan.tile, context.stream);
    }
  }
  return launch_sum<S>(problem, plan.splits, plan.tile, context.stream);
}

template <class S>
const char* sum_product(const Context& context, const SumProduct<S>& product) {
  const Index m = product.rows, n = product.columns;
  S* const c = product.c;
  if (m == 0 || n == 0) return nullptr;
  if (!fits_a_grid(m, n)) return kTooLarge;
  SumProblem<S> problem;
  problem.depth = rows_of(product.segments);
  const int multiprocessors = hopper_multiprocessors<S>(m, n);
  const SumPlan plan = multiprocessors > 0 ? plan_sum_hopper(m, n, problem.depth)
                                           : plan_sum(m, n, problem.depth, kHasLarge<S>);
  say<S>(context, "kernel gradient", plan);
  problem.rows = m;
  problem.columns = n;
  problem.chunk = plan.chunk;
  problem.order = plan.order;
  problem.c = c;
  problem.partial_sums = nullptr;
  if (plan.splits > 1) {
    problem.partial_sums = static_cast<Accumulator<S>*>(
        context.scratch->allocate(plan.splits * m * n * sizeof(Accumulator<S>)));
    if (problem.partial_sums == nullptr) return kNoMemory;
  }
  problem.a_by_vectors = problem.b_by_vectors = true;
  for (const PairSegment<S>& s : product.segments) {
    problem.a_by_vectors &= by_vectors(s.a, m);
    problem.b_by_vectors &= by_vectors(s.b, n);
  }
  // Scratch is aligned; c need not be.
  const Index items = multiprocessors > 0 ? kHopperFinished : kFinished;
  problem.c_by_vectors =
      n % items == 0 && (plan.splits > 1 || aligned(c, std::min<Index>(16, items * sizeof(S))));
  const char* error = fill(&problem.segments, product.segments, context.scratch, context.stream);
  if (error != nullptr) return error;
  error = start_sum<S>(context, problem, plan, multiprocessors);
  if (error != nullptr || plan.splits == 1) return error;
  return launch_partial_sums(PartialSumsProblem<S>{problem.partial_sums, c, m * n, plan.splits},
                             context.stream);
}

// dZ of each segment, in its storage type: dY itself where the segment is linear.
template <class S>
const char* form_dz(const Context& context, Index units,
                    const std::vector<BackwardSegment<S>>& segments, std::vector<const S*>* dz) {
  // Each starts aligned, as rows_product likes its rows.
  constexpr Index kItems = 16 / sizeof(S);
  const auto padded = [&](const BackwardSegment<S>& s) {
    return ceil_div(s.rows * units, kItems) * kItems;
  };
  Index items = 0;
  for (const BackwardSegment<S>& s : segments) {
    if (s.activation != Activation::kLinear) items += padded(s);
  }
  S* memory = nullptr;
  if (items > 0) {
    memory = static_cast<S*>(context.scratch->allocate(items * sizeof(S)));
    if (memory == nullptr) return kNoMemory;
  }
  std::vector<DzSegment<S>> formed;
  Index blocks = 0;
  for (const BackwardSegment<S>& s : segments) {
    if (s.activation == Activation::kLinear) {
      dz->push_back(s.dy);
      continue;
    }
    dz->push_back(memory);
    blocks += ceil_div(s.rows * units, kElementsPerBlock);
    formed.push_back({blocks, s.rows * units, s.dy, s.saved, memory, s.activation});
    memory += padded(s);
  }
  if (blocks == 0) return nullptr;
  DzProblem<S> problem;
  const char* const error = fill(&problem.segments, formed, context.scratch, context.stream);
  return error != nullptr ? error : launch_dz(problem, blocks, context.stream);
}

template <class S>
const char* column_sums(const Context& context, Index units,
                        const std::vector<BackwardSegment<S>>& segments,
                        const std::vector<const S*>& dz) {
  if (units == 0) return nullptr;
  std::vector<BiasSegment<S>> stacked;
  std::vector<BiasSum<S>> sums;
  Index chunks = 0;
  for (const BiasUsers<S>& users : bias_users(segments)) {
    for (const std::size_t i : users.segments) {
      chunks += ceil_div(segments[i].rows, kRowChunk);
      stacked.push_back({chunks, segments[i].rows, dz[i]});
    }
    sums.push_back({static_cast<Index>(stacked.size()), users.sum});
  }
  if (sums.empty()) return nullptr;
  BiasProblem<S> problem;
  problem.segment_count = static_cast<int>(stacked.size());
  problem.count = static_cast<int>(sums.size());
  problem.units = units;
  problem.partial_sums = static_cast<Accumulator<S>*>(
      context.scratch->allocate(std::max<Index>(1, chunks * units) * sizeof(Accumulator<S>)));
  if (problem.partial_sums == nullptr) return kNoMemory;
  const char* error = to_device(stacked, context.scratch, context.stream, &problem.segments);
  if (error == nullptr) error = to_device(sums, context.scratch, context.stream, &problem.sums);
  return error != nullptr ? error : launch_bias(problem, chunks, context.stream);
}

}  // namespace

template <class S>
const char* forward(const Context& context, const Kernel<S>& kernel,
                    const std::vector<ForwardSegment<S>>& segments) {
  return rows_product(context, "forward", forward_product(kernel, segments));
}

template <class S>
const char* backward(const Context& context, const Kernel<S>& kernel,
                     const std::vector<BackwardSegment<S>>& all, S* dkernel) {
  const std::vector<BackwardSegment<S>> segments = that_need_dz(all, dkernel != nullptr);
  std::vector<const S*> dz;
  const char* error = form_dz(context, kernel.units, segments, &dz);
  if (error != nullptr) return error;
  error = rows_product(context, "input gradient", input_gradient_product(kernel, segments, dz));
  if (error != nullptr) return error;
  if (dkernel != nullptr) {
    const auto product = kernel_gradient_product(kernel, segments, dz, dkernel);
    error = sum_product(context, kernel.transpose_kernel ? transposed(product, dkernel) : product);
    if (error != nullptr) return error;
  }
  return column_sums(context, kernel.units, segments, dz);
}

const char* zero(const Context& context, void* p, std::size_t bytes) {
  return clear(p, bytes, context.stream);
}

#define SHARED_DENSE_INSTANTIATE(S)                                    \
  template const char* forward(const Context&, const Kernel<S>&,       \
                               const std::vector<ForwardSegment<S>>&); \
  template const char* backward(const Context&, const Kernel<S>&,      \
                                const std::vector<BackwardSegment<S>>&, S*);
SHARED_DENSE_INSTANTIATE(float)
SHARED_DENSE_INSTANTIATE(double)
SHARED_DENSE_INSTANTIATE(BFloat16)
SHARED_DENSE_INSTANTIATE(Half)
#undef SHARED_DENSE_INSTANTIATE

}  // namespace shared_dense::cuda
