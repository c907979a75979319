// What the plan makes of a call, in words.
#pragma once

#include <string>
#include <vector>

#include "core/isa/dispatch.h"
#include "core/plan.h"

namespace shared_dense {

struct CallShape {
  std::vector<Index> rows;  // per input
  Index in_features, units;
  bool transpose_kernel;
};

// Y = f(X . W + b): one line.
template <class S>
SHARED_DENSE_API std::string explain_forward(const Isa& isa, const Workers& workers,
                                             const CallShape& shape);

// dX = dZ . W^T, of all inputs.
template <class S>
SHARED_DENSE_API std::string explain_input_gradient(const Isa& isa, const Workers& workers,
                                                    const CallShape& shape);

// dW = X^T . dZ
template <class S>
SHARED_DENSE_API std::string explain_kernel_gradient(const Isa& isa, const Workers& workers,
                                                     const CallShape& shape);

}  // namespace shared_dense
