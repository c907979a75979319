// SHARED_DENSE_VERBOSE=1: the plan of every shape that is new, on stderr.
#pragma once

#include <functional>
#include <string>

namespace shared_dense {

bool verbose();

// Prints `explain()` under `title`, once per title in this process.
void say_once(const std::string& title, const std::function<std::string()>& explain);

}  // namespace shared_dense
