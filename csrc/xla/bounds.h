// Tensors with a size that is known only when the compiled code runs: of what
// tf.where finds, say. XLA has a bound for such a size, and room for a tensor of
// bounds; what lies past the size is anything.
//
// Both lowerings compute on tensors of bounds, zero past the sizes: zeros add
// nothing to a sum, and no row reads another. Results then get their sizes.
// Nothing is reshaped while a size is dynamic: XLA's own reshapes of such
// tensors fail, in part, where two axes are dynamic.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "xla/hlo/builder/xla_builder.h"

namespace shared_dense {

// Per axis its size, as a scalar of 32 bits; an XlaOp that is not valid() where
// the size is the bound.
using Sizes = std::vector<xla::XlaOp>;

// Makes of *tensor one of bounds, with zeros past the sizes it had; these.
absl::StatusOr<Sizes> take_sizes(xla::XlaOp* tensor);

// The part of a tensor of bounds that has these sizes.
xla::XlaOp with_sizes(xla::XlaOp tensor, const Sizes& sizes);

}  // namespace shared_dense
