// The products of both ops in XLA's own operations, for devices on which the
// core does not run, and for tensors with a size that is known only when the
// compiled code runs.
#pragma once

#include <vector>

#include "tf/geometry.h"
#include "xla/hlo/builder/xla_builder.h"

namespace shared_dense {

// What XLA knows of a call. Tensors have their own shapes and one type.
//
// Rows are stacked for one product. Where a size is dynamic (of what tf.where
// finds, say), shapes are bounds, and where an input begins in the stack is not
// known: each input then has a product of its own, in its own shape.
struct Dots {
  const Geometry& geometry;
  bool transposed, stacked;
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

 private:
  // Of what input i is computed in: the matrix of its rows, or its own shape.
  int rank(int i) const;
  xla::XlaOp rows_of(int i, xla::XlaOp v, Index width) const;
  xla::XlaOp result(xla::XlaOp v, const TensorShape& shape) const;

  // Products with the kernel, contracted over that axis of it, of the rows of these inputs.
  std::vector<xla::XlaOp> rows_products(const std::vector<int>& of,
                                        const std::vector<xla::XlaOp>& rows, int axis) const;
  // The sum over these inputs; dz has all of them.
  xla::XlaOp kernel_gradient(const std::vector<int>& of, const std::vector<xla::XlaOp>& dz) const;
};

}  // namespace shared_dense
