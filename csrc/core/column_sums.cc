#include "core/column_sums.h"

#include <algorithm>
#include <utility>

#include "core/bias_users.h"
#include "core/products.h"

namespace shared_dense {
namespace {

constexpr Index kColumnsPerTask = 256;

// The rows of dZ of one input, one after the other.
template <class T>
struct InputRows {
  const T* first;
  Index rows;
};

// One bias gradient: the sum over the inputs that use the bias, in this order.
template <class S>
struct ColumnSum {
  S* sum;  // [units]
  std::vector<InputRows<Accumulator<S>>> inputs;
};

template <class T>
struct Chunk {
  InputRows<T> rows;
  T* sum;
};

// Sums to add up, from zero, in order.
template <class T>
struct Addition {
  std::vector<const T*> parts;
  T* sum;
};

// What is added up on the way to a bias gradient. A sum of one part is that part.
template <class T>
struct Additions {
  std::vector<Chunk<T>> chunks;     // rows to sums of chunks
  std::vector<Addition<T>> inputs;  // sums of chunks to sums of inputs
  std::vector<Addition<T>> totals;  // sums of inputs to bias gradients
};

template <class S, class T = Accumulator<S>>
Additions<T> plan_additions(Index units, const std::vector<ColumnSum<S>>& sums, T* memory) {
  Additions<T> plan;
  const auto room = [&] {
    T* const row = memory;
    memory += units;
    return row;
  };
  for (const ColumnSum<S>& sum : sums) {
    Addition<T> total{{}, room()};
    for (const InputRows<T>& input : sum.inputs) {
      Addition<T> whole{{}, nullptr};
      for (Index row = 0; row < input.rows; row += kRowChunk) {
        const T* const first = input.first + row * units;
        const Index rows = std::min(kRowChunk, input.rows - row);
        if (rows > 1) plan.chunks.push_back({{first, rows}, room()});
        whole.parts.push_back(rows > 1 ? plan.chunks.back().sum : first);
      }
      if (whole.parts.empty()) continue;
      if (whole.parts.size() == 1) {
        total.parts.push_back(whole.parts[0]);
        continue;
      }
      whole.sum = room();
      total.parts.push_back(whole.sum);
      plan.inputs.push_back(std::move(whole));
    }
    plan.totals.push_back(std::move(total));
  }
  return plan;
}

// Rows of memory that plan_additions takes.
template <class S>
Index rows_of_memory(const std::vector<ColumnSum<S>>& sums) {
  Index rows = 0;
  for (const ColumnSum<S>& sum : sums) {
    ++rows;
    for (const auto& input : sum.inputs) {
      if (input.rows > 1) rows += ceil_div(input.rows, kRowChunk) + 1;
    }
  }
  return rows;
}

}  // namespace

template <class S>
bool column_sums(const Context& context, Index units,
                 const std::vector<BackwardSegment<S>>& segments,
                 const std::vector<const Accumulator<S>*>& dz) {
  using T = Accumulator<S>;
  std::vector<ColumnSum<S>> sums;
  Index rows = 0;
  for (const BiasUsers<S>& users : bias_users(segments)) {
    sums.push_back({users.sum, {}});
    for (const std::size_t i : users.segments) {
      sums.back().inputs.push_back({dz[i], segments[i].rows});
      rows += segments[i].rows;
    }
  }
  if (units == 0 || sums.empty()) return true;  // rows without bytes are not walked
  const IsaFunctions<S>& functions = functions_of<S>(*context.isa);
  T* const memory =
      static_cast<T*>(context.scratch->allocate(rows_of_memory(sums) * units * sizeof(T)));
  if (memory == nullptr) return false;
  const Additions<T> plan = plan_additions(units, sums, memory);

  const Index blocks = ceil_div(units, kColumnsPerTask);
  const auto add = [&](const T* const* parts, std::size_t count, Index block, T* sum) {
    const Index column = block * kColumnsPerTask;
    const Index columns = std::min(kColumnsPerTask, units - column);
    functions.sum_rows(parts, static_cast<Index>(count), column, columns, sum + column);
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
                      for (Index i = 0; i < chunk.rows.rows; ++i) {
                        rows[i] = chunk.rows.first + i * units;
                      }
                      add(rows, chunk.rows.rows, block, chunk.sum);
                      return;
                    }
                    const Addition<T>& addition = (stage == 1 ? plan.inputs : plan.totals)[at];
                    const auto [column, columns] =
                        add(addition.parts.data(), addition.parts.size(), block, addition.sum);
                    if (stage == 2) {
                      functions.round(addition.sum + column, columns, sums[at].sum + column);
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
