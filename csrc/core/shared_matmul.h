// The public face of the core: one kernel, several inputs, three products.
//
//   forward          Y  = f(X . W + b)
//   input gradient   dX = dZ . W^T           dZ = dY * f'(z)
//   kernel gradient  dW = X^T . dZ           db = column sums of dZ
//
// The inputs stay where they are: a segment is a pointer to `rows` contiguous
// rows, and the stacked rows (their virtual concatenation) are gathered while
// packing. Any number of rows, 0 included; in_features and units may be 0 too.
//
// Contracts:
//  - Row invariance: each element of Y and dX is one chain of multiply-adds
//    over the ascending reduction index, starting at zero. On an ISA with FMA
//    its bits depend on its own row and on W only: not on the other rows, the
//    number of inputs, the block sizes, the threads or which such ISA it is.
//  - dW and db are sums over chunks of at most kRowChunk rows, of the segments
//    that take part, added in order: the same call gives the same bits on any
//    number of threads, and a segment that takes no part does not show. Each
//    segment has a sum of its own in db, and in dW one of kOwnChunkRows rows or
//    more: two that follow each other, whose dZ (in dW also X) cancel row by row,
//    add up to 0, unless what went before them rounds.
//  - The caller owns every buffer. Outputs do not overlap anything else.
//  - Any number of threads may call at once. `false` means that the scratch
//    memory could not be had, and the outputs are then unspecified.
#pragma once

#include <cstddef>
#include <vector>

#include "core/activation.h"
#include "core/isa/dispatch.h"
#include "core/parallel.h"
#include "core/types.h"

namespace shared_dense {

// Scratch memory. allocate() returns 64-byte aligned memory, valid until the
// Scratch is destroyed, or nullptr; it is called by the calling thread only.
class Scratch {
 public:
  virtual ~Scratch() = default;
  [[nodiscard]] virtual void* allocate(std::size_t bytes) = 0;
};

struct Context {
  ThreadPool* threads;  // nullptr: stay on the calling thread
  Scratch* scratch;
  const Isa* isa;  // active_isa(), checked by the caller not to be nullptr
};

template <class T>
struct Kernel {
  const T* data;      // [in_features, units], or [units, in_features] with transpose_kernel
  Index in_features;  // K
  Index units;        // U
  bool transpose_kernel;
};

template <class T>
struct ForwardSegment {
  Index rows;
  const T* x;         // [rows, in_features]
  T* y;               // [rows, units]
  T* pre_activation;  // [rows, units] receives z = x . W + b; nullptr: not wanted
  const T* bias;      // [units]; nullptr: none
  Activation activation;
};

template <class T>
struct BackwardSegment {
  Index rows;
  const T* x;      // [rows, in_features]; read only if it trains the kernel
  const T* dy;     // [rows, units]
  const T* saved;  // [rows, units]: y or z as saved_for(activation) says; linear: not read
  T* dx;           // [rows, in_features]; nullptr: not wanted
  T* dbias;        // [units]: summed over the segments that name it; nullptr: not wanted
  Activation activation;
  bool trains_kernel = true;  // whether its rows take part in dkernel
};

template <class T>
[[nodiscard]] SHARED_DENSE_API bool forward(const Context& context, const Kernel<T>& kernel,
                                            const std::vector<ForwardSegment<T>>& segments);

// dkernel has the kernel's own layout, and is zero where no segment trains the
// kernel; nullptr: not wanted.
template <class T>
[[nodiscard]] SHARED_DENSE_API bool backward(const Context& context, const Kernel<T>& kernel,
                                             const std::vector<BackwardSegment<T>>& segments,
                                             T* dkernel);

}  // namespace shared_dense
