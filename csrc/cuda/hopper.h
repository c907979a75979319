// The products on devices of compute capability 9.0: wgmma, fed by the copy
// engine (W) and by asynchronous copies (stacked rows).
#pragma once

#include "cuda/product.h"
#include "cuda/ptx_sm90.h"

namespace shared_dense::cuda {

// Whether a type has them.
template <class S>
inline constexpr bool kHasHopper = sizeof(S) == 2;

// Items that a thread finishes at a time, of one row: 16 bytes.
constexpr int kHopperFinished = 8;

// Start one product of rows and columns in whole chunks of eight items, with a
// plan of plan_rows_hopper or plan_sum_hopper; nullptr, or what went wrong. w:
// the kernel, if b_transposed [n, k], else [k, n]. Of the problem's flags
// c_by_vectors means 16 bytes; b_by_vectors of rows is not read.
template <class S>
const char* launch_rows_hopper(const RowsProblem<S>& problem, const TensorMap& w, bool b_transposed,
                               TileKind tile, int multiprocessors, CUstream_st* stream);
template <class S>
const char* launch_sum_hopper(const SumProblem<S>& problem, int splits, TileKind tile,
                              int multiprocessors, CUstream_st* stream);

}  // namespace shared_dense::cuda
