// Which instruction set the core runs on.
#pragma once

#include <string>
#include <vector>

#include "core/isa/functions.h"

namespace shared_dense {

// The ISA in use: the best one built in that the processor has, or the one
// that SHARED_DENSE_ISA names. nullptr when that name is unknown or the
// processor lacks it: then isa_error() says so, and nothing may be computed.
// Decided on the first call and kept.
SHARED_DENSE_API const Isa* active_isa();
SHARED_DENSE_API const std::string& isa_error();

// Names of those built in, best first and those for tests last, and of those
// that run here.
SHARED_DENSE_API std::vector<std::string> built_isas();
SHARED_DENSE_API std::vector<std::string> supported_isas();

// For tests: the named ISA, or nullptr.
SHARED_DENSE_API const Isa* find_isa(const std::string& name);

template <class T>
const IsaFunctions<T>& functions_of(const Isa& isa);

}  // namespace shared_dense
