// The stacked rows: segments seen as one list of rows, never materialised.
#pragma once

#include <algorithm>
#include <vector>

#include "core/types.h"

namespace shared_dense {

class Stack {
 public:
  template <class Segment>
  explicit Stack(const std::vector<Segment>& segments) {
    ends_.reserve(segments.size());
    for (const Segment& segment : segments) ends_.push_back(rows_ += segment.rows);
  }

  Index rows() const { return rows_; }

  // Cuts the stacked rows [first, first + count) into runs within one segment
  // and calls visit(i, segment, row, n) for each: stacked rows first + i to
  // first + i + n are rows `row` to row + n of that segment.
  template <class Visit>
  void visit(Index first, Index count, const Visit& visit) const {
    if (count == 0) return;
    std::size_t segment = std::upper_bound(ends_.begin(), ends_.end(), first) - ends_.begin();
    for (Index i = 0; i < count; ++segment) {
      const Index start = segment == 0 ? 0 : ends_[segment - 1];
      const Index n = std::min(ends_[segment] - first, count) - i;
      if (n > 0) visit(i, segment, first + i - start, n);
      i += n;
    }
  }

 private:
  std::vector<Index> ends_;
  Index rows_ = 0;
};

// Stacked rows [first, first + count), summed from zero. Chunks from one that
// `starts` to one that `ends` make one sum, which is then added to the others.
struct RowChunk {
  Index first, count;
  bool starts, ends;

  bool is_whole() const { return starts && ends; }
};

// The chunks that dW is summed in. A segment of kOwnChunkRows or more has a sum
// of its own, so that two of as many rows are summed alike; shorter ones share
// chunks, each a sum.
template <class Segment>
std::vector<RowChunk> row_chunks(const std::vector<Segment>& segments) {
  std::vector<RowChunk> chunks;
  Index end = 0;
  bool shared = false;  // whether the last chunk takes more
  for (const Segment& segment : segments) {
    const bool own = segment.rows >= kOwnChunkRows;
    shared = shared && !own;
    for (Index left = segment.rows; left > 0;) {
      if (!shared || chunks.back().count == kRowChunk) {
        chunks.push_back({end, 0, !own || left == segment.rows, !own || left <= kRowChunk});
      }
      const Index count = std::min(left, kRowChunk - chunks.back().count);
      chunks.back().count += count;
      end += count;
      left -= count;
      shared = !own;
    }
  }
  return chunks;
}

}  // namespace shared_dense
