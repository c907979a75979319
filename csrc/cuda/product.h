// The kernel that all products run on, and the two problems it solves.
#pragma once

#include <algorithm>

#include "cuda/activation.h"
#include "cuda/operand.h"
#include "cuda/plan.h"
#include "cuda/table.h"

namespace shared_dense::cuda {

// Items that a thread finishes at a time, of one row.
constexpr int kFinished = 4;

// C[m, n] = A[m, k] . B[k, n]: rows of A and C are stacked rows, and C gets
// bias and activation. B is the kernel, stored [k, n] or, by depth, [n, k].
template <class S>
struct RowsProblem {
  using Storage = S;
  static constexpr bool kIsSum = false;
  Table<RowsSegment<S>> segments;
  const S* b;
  Index rows, depth, columns;
  TileOrder order;
  bool a_by_vectors, b_by_vectors, c_by_vectors;  // c: pre-activations and biases, too
};

// C[m, n] = sum over stacked rows r of A[r, m] B[r, n], or parts of it.
template <class S>
struct SumProblem {
  using Storage = S;
  static constexpr bool kIsSum = true;
  Table<PairSegment<S>> segments;
  S* c;                               // with one split
  Accumulator<S>* partial_sums;       // [splits, m, n] with more; else nullptr
  Index rows, columns, depth, chunk;  // depth: stacked rows; rows: m
  TileOrder order;
  bool a_by_vectors, b_by_vectors, c_by_vectors;
};

// A tile of sums in shared memory; the pad keeps neighbouring rows apart.
template <class Tile>
constexpr int kSumPitch = Tile::kColumns + kFinished;

template <class Tile>
constexpr std::size_t kStageBytes = Tile::kABytes + Tile::kBBytes;

// Stages first, sums later, in the same memory; then the rows' segments.
template <class Tile>
constexpr std::size_t kTileBytes = std::max(
    Tile::kStages * kStageBytes<Tile>, Tile::kRows* kSumPitch<Tile> * sizeof(typename Tile::Sum));

template <class Tile>
constexpr std::size_t kSharedBytes = kTileBytes<Tile> + Tile::kRows * sizeof(int);

// Goes over the depth, kStages - 1 stages ahead of the arithmetic.
template <class Tile, class A, class B>
__device__ void accumulate(Tile* tile, unsigned char* memory, A* a, B* b, Index begin, Index end,
                           bool a_by_vectors, bool b_by_vectors) {
  constexpr int ahead = Tile::kStages - 1;
  const Index steps = ceil_div(end - begin, Tile::kDepth);
  const auto fetch = [&](Index step, int slot) {
    if (step < steps) {
      unsigned char* const to = memory + slot * kStageBytes<Tile>;
      const Index depth = begin + step * Tile::kDepth;
      a->load(to, depth, end, a_by_vectors);
      b->load(to + Tile::kABytes, depth, end, b_by_vectors);
    }
    commit_copies();  // also an empty group: the count of groups is the clock
  };
  for (int step = 0; step < ahead; ++step) fetch(step, step);
  int slot = 0, next = ahead;
#pragma unroll 1
  for (Index step = 0; step < steps; ++step) {
    wait_copies<ahead - 1>();
    // What the others fetched is there, and nobody reads the slot filled next.
    __syncthreads();
    fetch(step + ahead, next);
    const unsigned char* const stage = memory + slot * kStageBytes<Tile>;
    tile->multiply(stage, stage + Tile::kABytes);
    slot = slot + 1 == Tile::kStages ? 0 : slot + 1;
    next = next + 1 == Tile::kStages ? 0 : next + 1;
  }
  wait_copies<0>();
  __syncthreads();
}

// Spreads the sums through shared memory and calls finish(row, column, sums)
// for every kFinished of a row.
template <class Tile, class Finish>
__device__ void finish_tile(const Tile& tile, unsigned char* memory, const Finish& finish) {
  using Sum = typename Tile::Sum;
  constexpr int pitch = kSumPitch<Tile>, groups = Tile::kColumns / kFinished;
  Sum* const sums = reinterpret_cast<Sum*>(memory);
  tile.visit([&](int row, int column, Sum sum) { sums[row * pitch + column] = sum; });
  __syncthreads();
#pragma unroll 1
  for (int item = threadIdx.x; item < Tile::kRows * groups; item += Tile::kThreads) {
    const int row = item / groups, column = item % groups * kFinished;
    finish(row, column,
           *reinterpret_cast<const Pack<Sum, kFinished>*>(sums + row * pitch + column));
  }
}

template <class S, int kCount>
__device__ void store(S* to, const Pack<Accumulator<S>, kCount>& v, Index count, bool by_vectors) {
  Pack<S, kCount> narrowed;
#pragma unroll
  for (int e = 0; e < kCount; ++e) narrow(v.item[e], &narrowed.item[e]);
  if (by_vectors) {
    store_whole(to, narrowed);
    return;
  }
#pragma unroll
  for (int e = 0; e < kCount; ++e) {
    if (e < count) to[e] = narrowed.item[e];
  }
}

// Where the sums of a stacked row go, which is in segment `at`.
template <class S>
struct RowEnd {
  S* out;
  S* pre_activation;
  const S* bias;
  Index columns;
  Activation activation;
  bool by_vectors;

  __device__ RowEnd(const RowsProblem<S>& problem, int at, Index row)
      : columns(problem.columns), by_vectors(problem.c_by_vectors) {
    const RowsSegment<S> segment = problem.segments[at];
    const Index to = (row - problem.segments.start(at)) * columns;
    out = segment.out + to;
    pre_activation = segment.pre_activation == nullptr ? nullptr : segment.pre_activation + to;
    bias = segment.bias;
    activation = segment.activation;
  }

  // kCount of its sums, from column `first` on.
  template <int kCount>
  __device__ void finish(Index first, Pack<Accumulator<S>, kCount> z) const {
    const Index count = columns - first;
    if (bias != nullptr) {
      Pack<S, kCount> added = {};
      if (by_vectors) {
        added = *reinterpret_cast<const Pack<S, kCount>*>(bias + first);
      } else {
#pragma unroll
        for (int e = 0; e < kCount; ++e) {
          if (e < count) added.item[e] = bias[first + e];
        }
      }
#pragma unroll
      for (int e = 0; e < kCount; ++e) z.item[e] += widen(added.item[e]);
    }
    if (pre_activation != nullptr) store(pre_activation + first, z, count, by_vectors);
    activate_all(activation, z.item);
    store(out + first, z, count, by_vectors);
  }
};

template <class S, int kCount>
__device__ void finish_sum(const SumProblem<S>& problem, Index split, Index row, Index first,
                           const Pack<Accumulator<S>, kCount>& v) {
  const Index count = problem.columns - first, to = row * problem.columns + first;
  if (problem.partial_sums == nullptr) {
    store(problem.c + to, v, count, problem.c_by_vectors);
  } else {
    store(problem.partial_sums + split * problem.rows * problem.columns + to, v, count,
          problem.c_by_vectors);
  }
}

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads)
    rows_kernel(const __grid_constant__ RowsProblem<typename Tile::Storage> problem) {
  using S = typename Tile::Storage;
  using Sum = typename Tile::Sum;
  unsigned char* const memory = shared_memory();
  int* const segment_of = reinterpret_cast<int*>(memory + kTileBytes<Tile>);
  const TilePlace place = tile_at(problem.order, blockIdx.x);
  const Index row0 = Index{place.row} * Tile::kRows, column0 = Index{place.column} * Tile::kColumns;
  const Table<RowsSegment<S>>& segments = problem.segments;
  for (int row = threadIdx.x; row < Tile::kRows; row += Tile::kThreads) {
    segment_of[row] = segments.find(row0 + row);
  }
  __syncthreads();

  Tile tile;
  FixedLines<Tile, Tile::kRows> a([&](int n) -> const S* {
    const Index row = row0 + n;
    if (row >= problem.rows) return nullptr;
    const int segment = segment_of[n];
    return segments[segment].in + (row - segments.start(segment)) * problem.depth;
  });
  if constexpr (Tile::kBByDepth) {
    FixedLines<Tile, Tile::kColumns> b([&](int n) -> const S* {
      const Index column = column0 + n;
      return column < problem.columns ? problem.b + column * problem.depth : nullptr;
    });
    accumulate(&tile, memory, &a, &b, 0, problem.depth, problem.a_by_vectors, problem.b_by_vectors);
  } else {
    MatrixLines<Tile, Tile::kColumns> b(problem.b, column0, problem.columns);
    accumulate(&tile, memory, &a, &b, 0, problem.depth, problem.a_by_vectors, problem.b_by_vectors);
  }

  finish_tile(tile, memory, [&](int n, int column, const Pack<Sum, kFinished>& z) {
    const Index row = row0 + n, first = column0 + column;
    if (row >= problem.rows || first >= problem.columns) return;
    RowEnd<S>(problem, segment_of[n], row).finish(first, z);
  });
}

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads)
    sum_kernel(const __grid_constant__ SumProblem<typename Tile::Storage> problem) {
  using Sum = typename Tile::Sum;
  unsigned char* const memory = shared_memory();
  const int tiles = problem.order.row_tiles * problem.order.column_tiles;
  const int split = blockIdx.x / tiles;
  const TilePlace place = tile_at(problem.order, blockIdx.x % tiles);
  const Index row0 = Index{place.row} * Tile::kRows, column0 = Index{place.column} * Tile::kColumns;
  const Index begin = split * problem.chunk;
  const Index end = begin + problem.chunk < problem.depth ? begin + problem.chunk : problem.depth;

  Tile tile;
  StackedLines<Tile, Tile::kRows, true> a(problem.segments, begin, row0, problem.rows);
  StackedLines<Tile, Tile::kColumns, false> b(problem.segments, begin, column0, problem.columns);
  accumulate(&tile, memory, &a, &b, begin, end, problem.a_by_vectors, problem.b_by_vectors);

  finish_tile(tile, memory, [&](int n, int column, const Pack<Sum, kFinished>& v) {
    const Index row = row0 + n, first = column0 + column;
    if (row >= problem.rows || first >= problem.columns) return;
    finish_sum(problem, split, row, first, v);
  });
}

// Floats that tensor cores multiply, each rounded to TensorFloat-32.
struct Tf32 {};

// What a product in this arithmetic reads and writes.
template <class Arithmetic>
struct StoredOf {
  using Type = Arithmetic;
};
template <>
struct StoredOf<Tf32> {
  using Type = float;
};
template <class Arithmetic>
using Stored = typename StoredOf<Arithmetic>::Type;

// Start one product; nullptr, or what went wrong. One file per arithmetic, a
// dtype or Tf32, has them.
template <class Arithmetic>
const char* launch_rows(const RowsProblem<Stored<Arithmetic>>& problem, bool b_transposed,
                        TileKind tile, CUstream_st* stream);
template <class Arithmetic>
const char* launch_sum(const SumProblem<Stored<Arithmetic>>& problem, int splits, TileKind tile,
                       CUstream_st* stream);

}  // namespace shared_dense::cuda
