// What is done around the products: tables, dZ, bias gradients, partial sums.
#pragma once

#include "cuda/table.h"

namespace shared_dense::cuda {

// dZ = dY * f'(.) of one segment: `count` items in blocks up to `end`.
template <class S>
struct DzSegment {
  Index end, count;
  const S* dy;
  const S* saved;
  S* dz;
  Activation activation;
};

// Rows of dZ of one input that a bias gradient sums: in chunks of kRowChunk,
// numbered through all inputs from where the one before ended up to `end`.
template <class S>
struct BiasSegment {
  Index end, rows;
  const S* dz;
};

// One bias gradient: segments from where the one before ended to `segments`.
template <class S>
struct BiasSum {
  Index segments;
  S* sum;
};

template <class S>
struct DzProblem {
  Table<DzSegment<S>> segments;
};

template <class S>
struct BiasProblem {
  const BiasSegment<S>* segments;  // device memory
  const BiasSum<S>* sums;          // device memory
  int segment_count, count;        // of segments and of sums
  Index units;
  Accumulator<S>* partial_sums;  // [chunks, units]
};

template <class S>
struct PartialSumsProblem {
  const Accumulator<S>* partial_sums;  // [splits, count]
  S* sum;
  Index count;
  int splits;
};

// Words of a table on their way to the device: 4 KB with the rest.
struct Words {
  static constexpr int kMost = 510;
  unsigned long long* to;
  int count;
  unsigned long long word[kMost];
};

constexpr int kElementThreads = 256;
constexpr int kElementsPerBlock = 4 * kElementThreads;

// Each starts its kernels; nullptr, or what went wrong.
template <class S>
const char* launch_dz(const DzProblem<S>& problem, Index blocks, CUstream_st* stream);
template <class S>
const char* launch_bias(const BiasProblem<S>& problem, Index chunks, CUstream_st* stream);
template <class S>
const char* launch_partial_sums(const PartialSumsProblem<S>& problem, CUstream_st* stream);

}  // namespace shared_dense::cuda
