#include "core/activation.h"

namespace shared_dense {
namespace {

// In the order of the enum.
constexpr const char* kNames[kActivationCount] = {
    "linear", "relu", "relu6", "leaky_relu", "elu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh",
};

}  // namespace

const char* activation_name(Activation activation) { return kNames[static_cast<int>(activation)]; }

bool activation_from_name(std::string_view name, Activation* activation) {
  for (int i = 0; i < kActivationCount; ++i) {
    if (name == kNames[i]) {
      *activation = static_cast<Activation>(i);
      return true;
    }
  }
  return false;
}

}  // namespace shared_dense
