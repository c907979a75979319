#include "core/pool_use.h"

namespace shared_dense {

// Here and not in the header: one for all libraries that are linked to the core.
std::atomic<std::int64_t>& PoolUse::last() {
  static std::atomic<std::int64_t> time{0};
  return time;
}

}  // namespace shared_dense
