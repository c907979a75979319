#include "core/activation.h"

namespace shared_dense {
namespace {

#define SHARED_DENSE_NAME(id, name, saved) name,
constexpr const char* kNames[] = {SHARED_DENSE_ACTIVATIONS(SHARED_DENSE_NAME)};
#undef SHARED_DENSE_NAME

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
