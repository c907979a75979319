#include "core/column_sums.h"

#include <algorithm>
#include <utility>

#include "core/bias_users.h"
#include "core/products.h"

namespace shared_dense {
namespace {

constexpr Index kColumnsPerTask = 256;

// Rows that follow each other in memory, summed from zero.
template <class T>
struct Chunk {
  const T* first;
  Index rows;
  T* sum;
};

// Sums to add up, from zero, in order.
template <class T>
struct Addition {
  std::vector<const T*> terms;
  T* sum;
};

// What is added up on the way to a bias gradient. A sum of one term is that term.
template <class T>
struct Additions {
  std::vector<Chunk<T>> chunks;     // rows to sums of chunks
  std::vector<Addition<T>> inputs;  // sums of chunks to sums of inputs
  std::vector<Addition<T>> totals;  // sums of inputs to bias gradients
};

template <class S, class T = Accumulator<S>>
Additions<T> plan_additions(Index units, const std::vector<BackwardSegment<S>>& segments,
                            const std::vector<const T*>& dz,
                            const std::vector<BiasUsers<S>>& biases, T* memory) {
  Additions<T> plan;
  const auto room = [&] {
    T* const row = memory;
    memory += units;
    return row;
  };
  for (const BiasUsers<S>& bias : biases) {
    Addition<T> total{{}, room()};
    for (const std::size_t i : bias.segments) {
      Addition<T> whole{{}, nullptr};
      for (Index row = 0; row < segments[i].rows; row += kRowChunk) {
        const T* const first = dz[i] + row * units;
        const Index rows = std::min(kRowChunk, segments[i].rows - row);
        if (rows > 1) plan.chunks.push_back({first, rows, room()});
        whole.terms.push_back(rows > 1 ? plan.chunks.back().sum : first);
      }
      if (whole.terms.empty()) continue;
      if (whole.terms.size() == 1) {
        total.terms.push_back(whole.terms[0]);
        continue;
      }
      whole.sum = room();
      total.terms.push_back(whole.sum);
      plan.inputs.push_back(std::move(whole));
    }
    plan.totals.push_back(std::move(total));
  }
  return plan;
}

}  // namespace

template <class S>
bool column_sums(const Context& context, Index units,
                 const std::vector<BackwardSegment<S>>& segments,
                 const std::vector<const Accumulator<S>*>& dz) {
  using T = Accumulator<S>;
  const std::vector<BiasUsers<S>> biases = bias_users(segments);
  if (units == 0 || biases.empty()) return true;  // rows without bytes are not walked
  Index rows = 0;
  Index rows_of_memory = static_cast<Index>(biases.size());  // that plan_additions takes
  for (const BiasUsers<S>& bias : biases) {
    for (const std::size_t i : bias.segments) {
      rows += segments[i].rows;
      if (segments[i].rows > 1) rows_of_memory += ceil_div(segments[i].rows, kRowChunk) + 1;
    }
  }
  T* const memory = static_cast<T*>(context.scratch->allocate(rows_of_memory * units * sizeof(T)));
  if (memory == nullptr) return false;
  const Additions<T> plan = plan_additions(units, segments, dz, biases, memory);

  const IsaFunctions<S>& functions = functions_of<S>(*context.isa);
  const Index blocks = ceil_div(units, kColumnsPerTask);
  const auto add = [&](const T* const* terms, std::size_t count, Index block, T* sum) {
    const Index column = block * kColumnsPerTask;
    const Index columns = std::min(kColumnsPerTask, units - column);
    functions.sum_rows(terms, static_cast<Index>(count), column, columns, sum + column);
    return std::make_pair(column, columns);
  };
  const auto items = [&](const auto& list) { return static_cast<Index>(list.size()) * blocks; };
  parallel_stages(threads_for_elements(context, rows * units),
                  {items(plan.chunks), items(plan.inputs), items(plan.totals)},
                  [&](int stage, Index item, int) {
                    const Index at = item / blocks, block = item % blocks;
                    if (stage == 0) {
                      const Chunk<T>& chunk = plan.chunks[at];
                      const T* rows[kRowChunk];
                      for (Index i = 0; i < chunk.rows; ++i) rows[i] = chunk.first + i * units;
                      add(rows, chunk.rows, block, chunk.sum);
                      return;
                    }
                    const Addition<T>& addition = (stage == 1 ? plan.inputs : plan.totals)[at];
                    const auto [column, columns] =
                        add(addition.terms.data(), addition.terms.size(), block, addition.sum);
                    if (stage == 2) {
                      functions.round(addition.sum + column, columns, biases[at].sum + column);
                    }
                  });
  return true;
}

#define SHARED_DENSE_INSTANTIATE(S)                                                        \
  template bool column_sums(const Context&, Index, const std::vector<BackwardSegment<S>>&, \
                            const std::vector<const Accumulator<S>*>&);
SHARED_DENSE_INSTANTIATE(float)
SHARED_DENSE_INSTANTIATE(double)
SHARED_DENSE_INSTANTIATE(BFloat16)
SHARED_DENSE_INSTANTIATE(Half)
#undef SHARED_DENSE_INSTANTIATE

}  // namespace shared_dense
