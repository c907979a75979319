// What the plan makes of a call, in words: a line for each product.
#pragma once

#include <string>

#include "cuda/plan.h"

namespace shared_dense::cuda {

// By what the factors are multiplied: "float32 multiply-adds".
template <class S>
std::string arithmetic(bool allow_tf32);

std::string explain(const RowsPlan& plan, const std::string& arithmetic);
std::string explain(const SumPlan& plan, const std::string& arithmetic);

}  // namespace shared_dense::cuda
