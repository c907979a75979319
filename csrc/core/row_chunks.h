// The chunks of rows that dW is summed in.
#pragma once

#include <algorithm>
#include <vector>

#include "core/types.h"

namespace shared_dense {

// Stacked rows [first, first + count), summed from zero. Chunks from one that
// `starts` to one that `ends` make one sum, which is then added to the others.
struct RowChunk {
  Index first, count;
  bool starts, ends;

  bool is_whole() const { return starts && ends; }
};

// A segment of kOwnChunkRows or more has a sum of its own, so that two of as many
// rows are summed alike; shorter ones share chunks, each a sum.
template <class Segment>
std::vector<RowChunk> row_chunks(const std::vector<Segment>& segments) {
  std::vector<RowChunk> chunks;
  Index end = 0;
  bool shared = false;  // whether the last chunk takes more
  for (const Segment& segment : segments) {
    const Index rows = segment.end - end;
    const bool own = rows >= kOwnChunkRows;
    shared = shared && !own;
    for (Index left = rows; left > 0;) {
      if (!shared || chunks.back().count == kRowChunk) {
        chunks.push_back({end, 0, !own || left == rows, !own || left <= kRowChunk});
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
