// The products on a CUDA device, behind the core's own argument structs: every
// pointer in them is to device memory, and so is what Scratch gives.
//
// Contracts, where they differ from core/shared_matmul.h:
//  - A call launches work on the stream and returns; it waits for nothing.
//  - Row invariance: each element of Y and dX is one chain over the ascending
//    reduction index, sixteen terms a step in half types (one tensor-core
//    instruction), eight in TensorFloat-32, one term a step in float and double.
//    No tile changes it, nor do the other rows, their number, or where rows lie.
//  - In half types the instruction is wgmma on compute capability 9.0 if W is
//    16-byte aligned and K and U are positive multiples of 8, and mma.sync
//    elsewhere; they may round the sum of sixteen otherwise. So there, and there
//    only, a W off alignment may have other bits than the same W aligned. That
//    wgmma's instructions of several widths, and with W on either side, round
//    alike is an expectation; no device has confirmed it yet.
//  - dZ is rounded to the storage type, as tensor cores take nothing wider.
//  - dW and db are sums in an order that depends on sizes and on the device's
//    compute capability only. No atomics.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "core/shared_matmul.h"

struct CUstream_st;

namespace shared_dense::cuda {

struct Context {
  CUstream_st* stream;  // a cudaStream_t
  Scratch* scratch;     // device memory that later work on the stream may reuse
  // Whether float32 may be multiplied in TensorFloat-32 (each factor rounded to 11
  // bits), by tensor cores. Sums stay in float32.
  bool allow_tf32 = false;
  std::string* said = nullptr;  // gets a line for each product: how it runs
};

// Both return nullptr, or why the work could not be launched; outputs are then
// unspecified. Devices of compute capability 8.0 or higher.
template <class S>
[[nodiscard]] const char* forward(const Context& context, const Kernel<S>& kernel,
                                  const std::vector<ForwardSegment<S>>& segments);

template <class S>
[[nodiscard]] const char* backward(const Context& context, const Kernel<S>& kernel,
                                   const std::vector<BackwardSegment<S>>& segments, S* dkernel);

// Fills device memory with zeros.
[[nodiscard]] const char* zero(const Context& context, void* p, std::size_t bytes);

}  // namespace shared_dense::cuda
