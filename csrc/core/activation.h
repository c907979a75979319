// The activations: one table, from which their numbers, names and tables of
// functions follow. Each formula is a case of a switch, so one that is missing
// does not compile (-Werror=switch); CONTRIBUTING.md says where they stand.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/api.h"

namespace shared_dense {

// What the derivative of an activation is computed from.
enum class Saved : std::uint8_t {
  kNothing,        // f' is constant: dZ is dY
  kOutput,         // y determines f'(z)
  kPreActivation,  // z has to be kept or recomputed
};

// The enumerator, the name in the op's attributes and in Python, and what f' is
// computed from. leaky_relu has slope 0.2 and elu has alpha 1: Keras's and
// TensorFlow's defaults. gelu is exact, z * Phi(z); gelu_tanh is its
// approximation (Hendrycks and Gimpel, 2016). Compiled functions hold numbers
// of this order: a new one goes to the end.
#define SHARED_DENSE_ACTIVATIONS(ROW)    \
  ROW(kLinear, "linear", kNothing)       \
  ROW(kRelu, "relu", kOutput)            \
  ROW(kRelu6, "relu6", kOutput)          \
  ROW(kLeakyRelu, "leaky_relu", kOutput) \
  ROW(kElu, "elu", kOutput)              \
  ROW(kSigmoid, "sigmoid", kOutput)      \
  ROW(kTanh, "tanh", kOutput)            \
  ROW(kSilu, "silu", kPreActivation)     \
  ROW(kGelu, "gelu", kPreActivation)     \
  ROW(kGeluTanh, "gelu_tanh", kPreActivation)

#define SHARED_DENSE_ENUMERATOR(id, name, saved) id,
enum class Activation : std::uint8_t { SHARED_DENSE_ACTIVATIONS(SHARED_DENSE_ENUMERATOR) };
#undef SHARED_DENSE_ENUMERATOR

#define SHARED_DENSE_ONE(id, name, saved) +1
inline constexpr int kActivationCount = SHARED_DENSE_ACTIVATIONS(SHARED_DENSE_ONE);
#undef SHARED_DENSE_ONE

constexpr Saved saved_for(Activation activation) {
#define SHARED_DENSE_SAVED(id, name, saved) Saved::saved,
  constexpr Saved kEach[] = {SHARED_DENSE_ACTIVATIONS(SHARED_DENSE_SAVED)};
#undef SHARED_DENSE_SAVED
  return kEach[static_cast<int>(activation)];
}

SHARED_DENSE_API const char* activation_name(Activation activation);

// False, leaving `*activation` alone, when the name is unknown.
[[nodiscard]] SHARED_DENSE_API bool activation_from_name(std::string_view name,
                                                         Activation* activation);

}  // namespace shared_dense
