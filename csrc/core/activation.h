// Names of the activations, as the op's attributes and Python spell them.
#pragma once

#include <string_view>

#include "core/types.h"

namespace shared_dense {

const char* activation_name(Activation activation);

// False, leaving `*activation` alone, when the name is unknown.
[[nodiscard]] bool activation_from_name(std::string_view name, Activation* activation);

}  // namespace shared_dense
