// Activations and their derivatives in XLA's operations: the formulas of
// core/isa/epilogue.inc, for devices on which the core does not run.
#pragma once

#include "core/activation.h"
#include "xla/hlo/builder/xla_builder.h"

namespace shared_dense {

xla::XlaOp activate(Activation activation, xla::XlaOp z);

// dy * f'(z), from y or from z as saved_for(activation) says, which is not
// nothing: the gradient of a linear output has nothing saved to hand over.
xla::XlaOp chain(Activation activation, xla::XlaOp dy, xla::XlaOp saved);

}  // namespace shared_dense
