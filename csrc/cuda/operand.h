// Operands of a tile on their way from device memory to shared memory.
#pragma once

#include "cuda/ptx.h"
#include "cuda/table.h"

namespace shared_dense::cuda {

// Copies kLines lines of kLength items a stage, and zeros for what is outside.
// Of 16-byte chunks thread i takes i, i + kThreads, ...: a chunk's line is the
// same in every stage.
template <class Tile, int kLines, int kLength>
struct Operand {
  using S = typename Tile::Storage;
  static constexpr int kPerChunk = 16 / sizeof(S), kChunks = kLength / kPerChunk;
  static constexpr int kItems = kLines * kChunks;
  static constexpr int kEach = (kItems + Tile::kThreads - 1) / Tile::kThreads;

  __device__ static int line(int i) { return (threadIdx.x + i * Tile::kThreads) / kChunks; }

  // lines(i): the first item of this thread's i-th line; nullptr: outside.
  // Items from `first` to `limit` of a line are inside.
  template <class Lines>
  __device__ static void load(unsigned char* to, const Lines& lines, Index first, Index limit,
                              bool by_vectors) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int item = threadIdx.x + i * Tile::kThreads;
      if (kItems % Tile::kThreads != 0 && item >= kItems) break;
      const int chunk = item % kChunks;
      const S* const from = lines(i);
      const Index at = first + chunk * kPerChunk;
      unsigned char* const place = to + Tile::template place<kLength>(item / kChunks, chunk);
      if (by_vectors && from != nullptr && at < limit) {
        copy_async(place, from + at);
        continue;
      }
      auto* const pack = reinterpret_cast<Pack<S, kPerChunk>*>(place);
      if (from == nullptr || at >= limit) {
        *pack = {};
      } else {
#pragma unroll 1
        for (int e = 0; e < kPerChunk; ++e) pack->item[e] = at + e < limit ? from[at + e] : S{};
      }
    }
  }
};

// Rows or columns that stay the same while the depth goes by.
template <class Tile, int kLines>
class FixedLines {
  using Side = Operand<Tile, kLines, Tile::kDepth>;
  using S = typename Tile::Storage;

 public:
  // line_at(n): where the n-th line starts, or nullptr.
  template <class LineAt>
  __device__ explicit FixedLines(const LineAt& line_at) {
#pragma unroll
    for (int i = 0; i < Side::kEach; ++i) {
      const int n = Side::line(i);
      line_[i] = n < kLines ? line_at(n) : nullptr;
    }
  }
  __device__ void load(unsigned char* to, Index depth, Index end, bool by_vectors) {
    Side::load(to, [this](int i) { return line_[i]; }, depth, end, by_vectors);
  }

 private:
  const S* line_[Side::kEach];
};

// Lines that are the depth's own: rows of a matrix, from `first` to `limit`.
template <class Tile, int kLength>
class MatrixLines {
  using Side = Operand<Tile, Tile::kDepth, kLength>;
  using S = typename Tile::Storage;

 public:
  __device__ MatrixLines(const S* matrix, Index first, Index limit)
      : matrix_(matrix), first_(first), limit_(limit) {}
  __device__ void load(unsigned char* to, Index depth, Index end, bool by_vectors) {
    const auto line = [&](int i) {
      const Index row = depth + Side::line(i);
      return row < end ? matrix_ + row * limit_ : nullptr;
    };
    Side::load(to, line, first_, limit_, by_vectors);
  }

 private:
  const S* matrix_;
  Index first_, limit_;
};

// The same with stacked rows: one of the two lists of a table of PairSegments.
template <class Tile, int kLength, bool kIsA>
class StackedLines {
  using Side = Operand<Tile, Tile::kDepth, kLength>;
  using S = typename Tile::Storage;

 public:
  __device__ StackedLines(const Table<PairSegment<S>>& table, Index begin, Index first, Index limit)
      : table_(table), first_(first), limit_(limit), segment_(table.find(begin)) {}
  __device__ void load(unsigned char* to, Index depth, Index end, bool by_vectors) {
    // A stage starts where the one before ended or later.
    while (segment_ + 1 < table_.count && table_.end(segment_) <= depth) ++segment_;
    const auto line = [&](int i) -> const S* {
      const Index row = depth + Side::line(i);
      if (row >= end) return nullptr;
      int segment = segment_;
      while (table_.end(segment) <= row) ++segment;
      const PairSegment<S> entry = table_[segment];
      return (kIsA ? entry.a : entry.b) + (row - table_.start(segment)) * limit_;
    };
    Side::load(to, line, first_, limit_, by_vectors);
  }

 private:
  const Table<PairSegment<S>>& table_;
  Index first_, limit_;
  int segment_;
};

}  // namespace shared_dense::cuda
