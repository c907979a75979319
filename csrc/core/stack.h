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

  // Calls visit(i, segment, row) for the stacked rows first + i, i in
  // [0, count), with `row` counted from the start of its segment.
  template <class Visit>
  void visit(Index first, Index count, const Visit& visit) const {
    if (count == 0) return;
    std::size_t segment = std::upper_bound(ends_.begin(), ends_.end(), first) - ends_.begin();
    Index start = segment == 0 ? 0 : ends_[segment - 1];
    for (Index i = 0; i < count; ++i) {
      while (first + i >= ends_[segment]) start = ends_[segment++];
      visit(i, segment, first + i - start);
    }
  }

 private:
  std::vector<Index> ends_;
  Index rows_ = 0;
};

}  // namespace shared_dense
