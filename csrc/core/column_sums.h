// The bias gradients: column sums of dZ.
#pragma once

#include <vector>

#include "core/shared_matmul.h"

namespace shared_dense {

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

// Every input is summed by itself, in chunks of kRowChunk rows that are added in
// order, and then the inputs are. So inputs of as many rows, one dZ the negative
// of the other, add up to exactly 0.
template <class S>
[[nodiscard]] bool column_sums(const Context& context, Index units,
                               const std::vector<ColumnSum<S>>& sums);

}  // namespace shared_dense
