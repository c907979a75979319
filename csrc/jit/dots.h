// The products of both ops in XLA's own operations, for devices on which the
// core does not run.
#pragma once

#include <vector>

#include "tf/geometry.h"
#include "xla/hlo/builder/xla_builder.h"

namespace shared_dense {

// What XLA knows of a call. Tensors have their own shapes and one type.
struct Dots {
  const Geometry& geometry;
  bool transposed;
  xla::PrimitiveType type;
  std::vector<xla::XlaOp> inputs;
  xla::XlaOp kernel;
  std::vector<xla::XlaOp> biases;

  // The outputs; with `kept` the pre-activations after them.
  std::vector<xla::XlaOp> forward(bool kept) const;

  // The gradients wanted, in the order of the op's outputs.
  std::vector<xla::XlaOp> backward(const std::vector<xla::XlaOp>& grads,
                                   const std::vector<xla::XlaOp>& saved,
                                   const std::vector<TensorShape>& input_shapes,
                                   const Attributes& attributes, const Wanted& wanted) const;
};

}  // namespace shared_dense
