#include "tf/verbose.h"

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>

namespace shared_dense {

bool verbose() {
  static const bool on = [] {
    const char* value = std::getenv("SHARED_DENSE_VERBOSE");
    return value != nullptr && *value != '\0' && std::string(value) != "0";
  }();
  return on;
}

void say_once(const std::string& title, const std::function<std::string()>& explain) {
  static std::mutex mutex;
  static std::set<std::string>* const said = new std::set<std::string>;  // outlives all threads
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (!said->insert(title).second) return;
  }
  std::fprintf(stderr, "shared_dense: %s\n%s", title.c_str(), explain().c_str());
}

}  // namespace shared_dense
