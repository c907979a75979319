// What a function compiled by XLA hands to the core's handlers: their names,
// and their attributes as text.
#pragma once

namespace shared_dense::call {

inline constexpr char kForward[] = "shared_dense.forward";
inline constexpr char kBackward[] = "shared_dense.backward";

// Attributes. One number per input each: arrays of 32 bits.
inline constexpr char kActivations[] = "activations";     // indices of the enum
inline constexpr char kBiasOf[] = "bias_of";              // -1: none
inline constexpr char kTrainsKernel[] = "trains_kernel";  // 0 or 1
inline constexpr char kNeedsInput[] = "needs_input";      // 0 or 1
// Single ones.
inline constexpr char kTransposed[] = "transposed";
inline constexpr char kKept[] = "kept";  // whether pre-activations are results
inline constexpr char kNeedsKernel[] = "needs_kernel";
inline constexpr char kNeedsBiases[] = "needs_biases";

}  // namespace shared_dense::call
