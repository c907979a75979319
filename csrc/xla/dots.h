// The products of both ops in XLA's own operations, for devices on which the
// core does not run.
#pragma once

#include <vector>

#include "tf/geometry.h"
#include "xla/hlo/builder/xla_builder.h"

namespace shared_dense {

// What XLA knows of a call. Tensors have their own shapes, static ones, and one
// type; their rows are stacked for one product.
struct Dots {
  const Attributes& attributes;
  const Geometry& geometry;
  xla::PrimitiveType type;
  std::vector<xla::XlaOp> inputs;
  xla::XlaOp kernel;
  std::vector<xla::XlaOp> biases;

  // The outputs; if wanted, the pre-activations after them.
  std::vector<xla::XlaOp> forward(bool wants_pre_activations) const;

  // The gradients wanted, in the order of the op's outputs.
  std::vector<xla::XlaOp> backward(const std::vector<xla::XlaOp>& grads,
                                   const std::vector<xla::XlaOp>& saved,
                                   const std::vector<TensorShape>& input_shapes,
                                   const Wanted& wanted) const;

 private:
  xla::XlaOp rows_of(int i, xla::XlaOp v, Index width) const;
  xla::XlaOp result(xla::XlaOp v, const TensorShape& shape) const;

  // Products with the kernel, contracted over that axis of it, of the rows of these inputs.
  std::vector<xla::XlaOp> rows_products(const std::vector<int>& of,
                                        const std::vector<xla::XlaOp>& rows, int axis) const;
  // The sum over these inputs; dz has all of them.
  xla::XlaOp kernel_gradient(const std::vector<int>& of, const std::vector<xla::XlaOp>& dz) const;
};

}  // namespace shared_dense
