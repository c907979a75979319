// The kernels of compute capability 9.0: what their tiles read and where it goes.
#pragma once

#include "cuda/hopper_pipeline.h"

namespace shared_dense::cuda {

template <class S>
struct HopperRows {
  TensorMap w;
  RowsProblem<S> problem;
};

// Y or dX. kWIsLeft: the tile's M is columns and its N is rows.
template <class Tile, bool kWIsLeft>
class RowsWork {
 public:
  using S = typename Tile::Storage;
  static constexpr bool kWByDepth = kWIsLeft ? Tile::kLeftByDepth : Tile::kRightByDepth;
  static constexpr int kRows = kWIsLeft ? Tile::kN : Tile::kM;  // of a block
  static constexpr int kColumns = kWIsLeft ? Tile::kM : Tile::kN;
  static constexpr int kWBytes = kWIsLeft ? Tile::kLeftBytes : Tile::kRightBytes;

  struct Place {
    Index row, column, begin, end;
  };

  __device__ explicit RowsWork(const HopperRows<S>& all) : all_(all), problem_(all.problem) {}
  __device__ int count() const { return problem_.order.row_tiles * problem_.order.column_tiles; }
  __device__ Place at(int index) const {
    const TilePlace place = tile_at(problem_.order, index);
    const Index row = (Index{place.row} * Tile::kCluster + rank<Tile>()) * kRows;
    return {row, Index{place.column} * kColumns, 0, problem_.depth};
  }

  class Fetch {
   public:
    __device__ Fetch(const RowsWork& work, const Place& place)
        : work_(work), column_(static_cast<int>(place.column)) {
#pragma unroll
      for (int i = 0; i < kLines; ++i) {
        const Index row = place.row + threadIdx.x / 8 + i * kLinesApart;
        if (row >= work.problem_.rows) {
          line_[i] = nullptr;
          continue;
        }
        const int at = work.problem_.segments.find(row);
        const RowsSegment<S> segment = work.problem_.segments[at];
        line_[i] = segment.in + (row - work.problem_.segments.start(at)) * work.problem_.depth +
                   threadIdx.x % 8 * kChunk;
      }
    }

    __device__ void operator()(unsigned char* stage, Barrier* full, Index depth) const {
      const int at = static_cast<int>(depth);
      unsigned char* const w = stage + (kWIsLeft ? 0 : Tile::kLeftBytes);
      unsigned char* const rows = stage + (kWIsLeft ? Tile::kLeftBytes : 0);
      if (threadIdx.x == 0) {
        arrive_and_expect(full, kWBytes);
        // A block's share of W goes to all blocks of the cluster.
        constexpr int share = kWBytes / Tile::kPanelBytes / Tile::kCluster;
#pragma unroll
        for (int i = 0; i < share; ++i) {
          const int box = rank<Tile>() * share + i, column = column_ + box * kLine;
          copy_box<Tile::kCluster>(w + box * Tile::kPanelBytes, work_.all_.w,
                                   kWByDepth ? at : column, kWByDepth ? column : at, full);
        }
      }
      const bool inside = at + static_cast<int>(threadIdx.x % 8) * kChunk < work_.problem_.depth;
#pragma unroll
      for (int i = 0; i < kLines; ++i) {
        const S* const from = inside && line_[i] != nullptr ? line_[i] + depth : nullptr;
        fetch_chunk(rows + Tile::place(threadIdx.x / 8 + i * kLinesApart, threadIdx.x % 8), from,
                    work_.problem_.a_by_vectors);
      }
    }

   private:
    static constexpr int kLines = kRows / kLinesApart;
    const RowsWork& work_;
    int column_;
    const S* line_[kLines];  // this thread's chunk at depth 0; nullptr: outside
  };

  // group: of the warpgroups that share the tile's M.
  __device__ void finish(const Place& place, int group, float (&d)[Tile::kSums]) const {
    if constexpr (kWIsLeft) {
      const Index first = place.column + 64 * group;
      visit_along_m(d, [&](int m, int n, const Pack<float, kHopperFinished>& z) {
        const Index row = place.row + n, column = first + m;
        if (row < problem_.rows && column < problem_.columns) end_of(row).finish(column, z);
      });
    } else {
      const Index first = place.row + 64 * group + own_row();
      const RowEnd<S> upper = end_of(first), lower = end_of(first + 8);
      visit_along_n(d, [&](int half, int n, const Pack<float, kHopperFinished>& z) {
        const Index row = first + 8 * half, column = place.column + n;
        if (row >= problem_.rows || column >= problem_.columns) return;
        const RowEnd<S> end = half == 0 ? upper : lower;
        end.finish(column, z);
      });
    }
  }

 private:
  static_assert(Tile::kCluster == 1 || !kWIsLeft, "the right operand is shared");

  __device__ RowEnd<S> end_of(Index row) const {
    return {problem_, problem_.segments.find(row), row};
  }

  const HopperRows<S>& all_;
  const RowsProblem<S>& problem_;
};

// Segments whose rows the copy engine can fetch for dW.
constexpr int kMaps = 4;

template <class S>
struct HopperSum {
  TensorMap a[kMaps], b[kMaps];
  int maps;  // of the first segments; the rows of others, and of stages that
             // straddle segments, are fetched by threads
  int splits;
  SumProblem<S> problem;
};

// dW: both operands are stacked rows, whose lines are steps of the depth.
template <class Tile>
class SumWork {
 public:
  using S = typename Tile::Storage;
  struct Place {
    Index row, column, begin, end;
    int split;
  };

  __device__ explicit SumWork(const HopperSum<S>& all)
      : all_(all),
        problem_(all.problem),
        tiles_(all.problem.order.row_tiles * all.problem.order.column_tiles) {}
  __device__ Index count() const { return Index{tiles_} * all_.splits; }
  __device__ Place at(int index) const {
    const int split = index / tiles_;
    const TilePlace place = tile_at(problem_.order, index % tiles_);
    const Index row = (Index{place.row} * Tile::kCluster + rank<Tile>()) * Tile::kM;
    const Index begin = split * problem_.chunk, end = begin + problem_.chunk;
    return {row, Index{place.column} * Tile::kN, begin, end < problem_.depth ? end : problem_.depth,
            split};
  }

  class Fetch {
   public:
    __device__ Fetch(const SumWork& work, const Place& place)
        : work_(work), place_(place), segment_(work.problem_.segments.find(place.begin)) {}

    __device__ void operator()(unsigned char* stage, Barrier* full, Index depth) {
      const Table<PairSegment<S>>& segments = work_.problem_.segments;
      while (segments.end(segment_) <= depth) ++segment_;
      const Index end = depth + Tile::kDepth < place_.end ? depth + Tile::kDepth : place_.end;
      // All blocks of a cluster decide alike. Of the lines behind `end` those
      // of the next segment are none of the map's.
      if (segment_ < work_.all_.maps && end <= segments.end(segment_)) {
        if (threadIdx.x == 0) {
          by_engine(stage, full, static_cast<int>(depth - segments.start(segment_)));
        }
      } else {
        if (threadIdx.x == 0) arrive(full);
        by_threads(stage, depth, end);
      }
    }

   private:
    __device__ void by_engine(unsigned char* stage, Barrier* full, int line) const {
      arrive_and_expect(full, Tile::kStageBytes);
#pragma unroll
      for (int i = 0; i < Tile::kM / kLine; ++i) {
        copy_box<1>(stage + i * Tile::kPanelBytes, work_.all_.a[segment_],
                    static_cast<int>(place_.row) + i * kLine, line, full);
      }
      constexpr int share = Tile::kN / kLine / Tile::kCluster;
#pragma unroll
      for (int i = 0; i < share; ++i) {
        const int box = rank<Tile>() * share + i;
        copy_box<Tile::kCluster>(stage + Tile::kLeftBytes + box * Tile::kPanelBytes,
                                 work_.all_.b[segment_],
                                 static_cast<int>(place_.column) + box * kLine, line, full);
      }
    }

    __device__ void by_threads(unsigned char* stage, Index depth, Index end) const {
      const SumProblem<S>& problem = work_.problem_;
      int segment = segment_;
#pragma unroll 1
      for (int i = 0; i < Tile::kDepth; i += kLinesApart) {
        const int line = threadIdx.x / 8 + i, chunk = threadIdx.x % 8;
        const Index row = depth + line;
        const S *a = nullptr, *b = nullptr;
        if (row < end) {
          while (problem.segments.end(segment) <= row) ++segment;
          const PairSegment<S> entry = problem.segments[segment];
          const Index own = row - problem.segments.start(segment);
          a = entry.a + own * problem.rows;
          b = entry.b + own * problem.columns;
        }
        unsigned char* const to = stage + Tile::place(line, chunk);
        fetch_panels<Tile::kM>(to, a, place_.row + chunk * kChunk, problem.rows,
                               problem.a_by_vectors);
        fetch_panels<Tile::kN>(to + Tile::kLeftBytes, b, place_.column + chunk * kChunk,
                               problem.columns, problem.b_by_vectors);
      }
    }

    // This thread's chunk of a line in each of the panels that hold kItems.
    template <int kItems>
    __device__ static void fetch_panels(unsigned char* to, const S* line, Index first, Index limit,
                                        bool by_vectors) {
#pragma unroll
      for (int i = 0; i < kItems / kLine; ++i) {
        const Index at = first + i * kLine;
        fetch_chunk(to + i * Tile::kPanelBytes, line != nullptr && at < limit ? line + at : nullptr,
                    by_vectors);
      }
    }

    const SumWork& work_;
    const Place& place_;
    int segment_;  // of the stage's first line
  };

  __device__ void finish(const Place& place, int group, float (&d)[Tile::kSums]) const {
    const Index first = place.row + 64 * group + own_row();
    visit_along_n(d, [&](int half, int n, const Pack<float, kHopperFinished>& v) {
      const Index row = first + 8 * half, column = place.column + n;
      if (row >= problem_.rows || column >= problem_.columns) return;
      finish_sum(problem_, place.split, row, column, v);
    });
  }

 private:
  const HopperSum<S>& all_;
  const SumProblem<S>& problem_;
  int tiles_;
};

template <class Tile, bool kWIsLeft>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kGroups == 2 ? 1 : 2)
    hopper_rows_kernel(const __grid_constant__ HopperRows<typename Tile::Storage> all) {
  run_block<Tile>(RowsWork<Tile, kWIsLeft>(all));
}

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    hopper_sum_kernel(const __grid_constant__ HopperSum<typename Tile::Storage> all) {
  run_block<Tile>(SumWork<Tile>(all));
}

}  // namespace shared_dense::cuda
