// Words every layer shares: sizes and dtypes of the core.
#pragma once

#include <cstdint>

#include "core/api.h"

namespace shared_dense {

using Index = std::int64_t;

constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

// Most rows per partial sum of dW and db. Part of the numerical contract (another
// value gives other bits), so it is no tuning knob: long enough that adding a
// chunk to dW is cheap beside making it, short enough that the error of a
// float32 sum over n rows of one input grows with 256 + n/256 rather than n. The
// sums of inputs are then added one by one, as plain reuse has them added.
inline constexpr Index kRowChunk = 256;

// Inputs of so many rows have partial sums of dW of their own: where two of them
// cancel, they cancel to exactly 0. Part of the contract, too. A partial sum more
// costs as much as two rows or three.
inline constexpr Index kOwnChunkRows = 64;

// Storage types of 16 bits. Nothing is computed in them: they become float where
// they are read, and a result is rounded once, to nearest even, where it is
// stored.
struct SHARED_DENSE_API BFloat16 {
  std::uint16_t bits;  // the upper half of a float
};
struct SHARED_DENSE_API Half {
  std::uint16_t bits;  // IEEE 754 binary16
};

// What products of a storage type are accumulated in.
template <class S>
struct AccumulatorOf {
  using Type = S;
};
template <>
struct AccumulatorOf<BFloat16> {
  using Type = float;
};
template <>
struct AccumulatorOf<Half> {
  using Type = float;
};
template <class S>
using Accumulator = typename AccumulatorOf<S>::Type;

}  // namespace shared_dense
