// The oracle: what the core computes, one line per formula, in float64.
// Slow on purpose. The tests compare every path with it.
#pragma once

#include "core/shared_matmul.h"

namespace shared_dense {

// f(z) and f'(z) in float64.
SHARED_DENSE_API double reference_activation(Activation activation, double z);
SHARED_DENSE_API double reference_derivative(Activation activation, double z);

// Writes y only (no pre-activation).
template <class T>
SHARED_DENSE_API void reference_forward(const Kernel<T>& kernel,
                                        const std::vector<ForwardSegment<T>>& segments);

// As backward(), except that `saved` is not read: z is made again from x, the
// kernel and `bias[i]` (nullptr: none), so the oracle shares no cached value.
template <class T>
SHARED_DENSE_API void reference_backward(const Kernel<T>& kernel,
                                         const std::vector<BackwardSegment<T>>& segments,
                                         const std::vector<const T*>& bias, T* dkernel);

}  // namespace shared_dense
