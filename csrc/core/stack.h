// The three products of the public face as products over stacked rows, the same
// on every device. Only the segments that take part in a product, and have rows,
// are stacked for it.
#pragma once

#include <cstddef>
#include <vector>

#include "core/segments.h"
#include "core/shared_matmul.h"

namespace shared_dense {

// Y = f(X . W + b)
template <class S>
RowsProduct<S> forward_product(const Kernel<S>& kernel,
                               const std::vector<ForwardSegment<S>>& segments) {
  RowsProduct<S> product{
      {}, kernel.data, kernel.transpose_kernel, kernel.in_features, kernel.units};
  product.segments.reserve(segments.size());
  Index end = 0;
  for (const ForwardSegment<S>& s : segments) {
    if (s.rows == 0) continue;
    product.segments.push_back({end += s.rows, s.x, s.y, s.pre_activation, s.bias, s.activation});
  }
  return product;
}

// The segments whose dZ anybody reads.
template <class S>
std::vector<BackwardSegment<S>> that_need_dz(const std::vector<BackwardSegment<S>>& all,
                                             bool wants_dkernel) {
  std::vector<BackwardSegment<S>> segments;
  segments.reserve(all.size());
  for (const BackwardSegment<S>& s : all) {
    if (s.dx != nullptr || s.dbias != nullptr || (wants_dkernel && s.trains_kernel)) {
      segments.push_back(s);
    }
  }
  return segments;
}

// dX = dZ . W^T. Z is what dZ is stored in.
template <class Z, class S>
RowsProduct<Z, S> input_gradient_product(const Kernel<S>& kernel,
                                         const std::vector<BackwardSegment<S>>& segments,
                                         const std::vector<const Z*>& dz) {
  // W^T is stored transposed where W is not.
  RowsProduct<Z, S> product{
      {}, kernel.data, !kernel.transpose_kernel, kernel.units, kernel.in_features};
  Index end = 0;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const BackwardSegment<S>& s = segments[i];
    if (s.dx == nullptr || s.rows == 0) continue;
    product.segments.push_back({end += s.rows, dz[i], s.dx, nullptr, nullptr, Activation::kLinear});
  }
  return product;
}

// dW = X^T . dZ, of a kernel that is not stored transposed.
template <class Z, class S>
SumProduct<S, Z, S> kernel_gradient_product(const Kernel<S>& kernel,
                                            const std::vector<BackwardSegment<S>>& segments,
                                            const std::vector<const Z*>& dz, S* dkernel) {
  SumProduct<S, Z, S> product{{}, kernel.in_features, kernel.units, dkernel};
  Index end = 0;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const BackwardSegment<S>& s = segments[i];
    if (s.trains_kernel && s.rows > 0) product.segments.push_back({end += s.rows, s.x, dz[i]});
  }
  return product;
}

// The same sums as [columns, rows], to `c`.
template <class A, class B, class S>
SumProduct<B, A, S> transposed(const SumProduct<A, B, S>& product, S* c) {
  return {swapped(product.segments), product.columns, product.rows, c};
}

}  // namespace shared_dense
