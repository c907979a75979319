#include "core/isa/dispatch.h"

#include <cstdlib>

namespace shared_dense {
namespace {

// Best first. `generic` runs everywhere, so what stands behind it is taken by
// name only: those that tests alone are for.
constexpr const Isa* kIsas[] = {
#if defined(__x86_64__)
    &kIsaAvx512,
    &kIsaAvx2,
#elif defined(__aarch64__)
    &kIsaNeon,
#endif
    &kIsaGeneric,
#if defined(SHARED_DENSE_TEST_ISAS)
    &kIsaAvx2Wide,
#endif
};

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

struct Choice {
  const Isa* isa = nullptr;
  std::string error;
};

Choice choose() {
  Choice choice;
  const char* forced = std::getenv("SHARED_DENSE_ISA");
  if (forced == nullptr || *forced == '\0') {
    for (const Isa* isa : kIsas) {
      if (isa->supported()) {
        choice.isa = isa;
        return choice;
      }
    }
  }
  const Isa* named = find_isa(forced);
  if (named != nullptr && named->supported()) {
    choice.isa = named;
  } else {
    choice.error = "SHARED_DENSE_ISA=" + std::string(forced) +
                   (named == nullptr ? " is not an instruction set of this build"
                                     : " is not supported by this processor") +
                   "; choose one of: " + join(supported_isas()) + ", or unset it";
  }
  return choice;
}

const Choice& choice() {
  static const Choice chosen = choose();
  return chosen;
}

}  // namespace

const Isa* active_isa() { return choice().isa; }
const std::string& isa_error() { return choice().error; }

const Isa* find_isa(const std::string& name) {
  for (const Isa* isa : kIsas) {
    if (name == isa->name) return isa;
  }
  return nullptr;
}

std::vector<std::string> built_isas() {
  std::vector<std::string> names;
  for (const Isa* isa : kIsas) names.emplace_back(isa->name);
  return names;
}

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const Isa* isa : kIsas) {
    if (isa->supported()) names.emplace_back(isa->name);
  }
  return names;
}

template <>
const IsaFunctions<float>& functions_of<float>(const Isa& isa) {
  return *isa.f32;
}
template <>
const IsaFunctions<double>& functions_of<double>(const Isa& isa) {
  return *isa.f64;
}

template <>
const IsaFunctions<BFloat16>& functions_of<BFloat16>(const Isa& isa) {
  return *isa.bf16;
}
template <>
const IsaFunctions<Half>& functions_of<Half>(const Isa& isa) {
  return *isa.f16;
}

}  // namespace shared_dense
