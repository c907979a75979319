// The bias gradients: column sums of dZ.
#pragma once

#include <vector>

#include "core/shared_matmul.h"

namespace shared_dense {

// Each bias gradient that a segment names, summed over the segments that name it.
//
// Every input is summed by itself, in chunks of kRowChunk rows that are added in
// order, and then the inputs are. So inputs of as many rows, one dZ the negative
// of the other, add up to exactly 0.
template <class S>
[[nodiscard]] bool column_sums(const Context& context, Index units,
                               const std::vector<BackwardSegment<S>>& segments,
                               const std::vector<const Accumulator<S>*>& dz);

}  // namespace shared_dense
