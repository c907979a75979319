// What a function compiled by XLA knows of the core's handlers: their names, and
// those of their attributes.
#pragma once

namespace shared_dense::handlers {

inline constexpr char kForward[] = "shared_dense.forward";
inline constexpr char kBackward[] = "shared_dense.backward";

// Attributes. One number per input each: arrays of 32 bits.
inline constexpr char kActivations[] = "activations";     // indices of the enum
inline constexpr char kBiasOf[] = "bias_of";              // -1: none
inline constexpr char kTrainsKernel[] = "trains_kernel";  // 0 or 1
inline constexpr char kNeedsInput[] = "needs_input";      // 0 or 1
// Single ones.
inline constexpr char kTransposeKernel[] = "transpose_kernel";
inline constexpr char kPreActivations[] = "pre_activations";  // whether they are results
inline constexpr char kNeedsKernel[] = "needs_kernel";
inline constexpr char kNeedsBiases[] = "needs_biases";

}  // namespace shared_dense::handlers
