// Which segments each bias gradient is summed over.
#pragma once

#include <cstddef>
#include <unordered_map>
#include <vector>

#include "core/shared_matmul.h"

namespace shared_dense {

template <class S>
struct BiasUsers {
  S* sum;                             // the gradient
  std::vector<std::size_t> segments;  // in order
};

// One entry per gradient that any of these names. Linear in the segments: there
// may be as many biases.
template <class S>
std::vector<BiasUsers<S>> bias_users(const std::vector<BackwardSegment<S>>& segments) {
  std::vector<BiasUsers<S>> users;
  std::unordered_map<S*, std::size_t> place;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    S* const sum = segments[i].dbias;
    if (sum == nullptr) continue;
    const auto [at, is_new] = place.emplace(sum, users.size());
    if (is_new) users.push_back({sum, {}});
    users[at->second].segments.push_back(i);
  }
  return users;
}

}  // namespace shared_dense
