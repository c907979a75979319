// The products that a call is made of, as plain lists: where the rows of each
// input lie and where its results go. Shared by the core and by csrc/cuda.
//
// A list is the stacked rows of its segments, never materialised: a segment ends
// at the number of rows up to and with it, and begins where the one before ends.
// No segment is empty, so the end of the last is the number of stacked rows.
#pragma once

#include <algorithm>
#include <vector>

#include "core/types.h"

namespace shared_dense {

// Rows that are read and rows that are made of them, one for one. A is what the
// rows are stored in: S, or in the core its accumulator where they are dZ.
template <class A, class S = A>
struct RowsSegment {
  Index end;
  const A* in;
  S* out;
  S* pre_activation;  // nullptr: not wanted
  const S* bias;      // nullptr: none
  Activation activation;
};

// Rows of two lists that are multiplied with each other: dW is a sum over them.
template <class A, class B = A>
struct PairSegment {
  Index end;
  const A* a;
  const B* b;
};

// C[m, n] = f(A[m, :] . B[:, n]): rows in, rows out, B shared. Y and dX.
template <class A, class S = A>
struct RowsProduct {
  std::vector<RowsSegment<A, S>> segments;
  const S* b;  // [depth, columns], or [columns, depth] if transposed
  bool b_transposed;
  Index depth, columns;
};

// C[m, n] = sum over r of A[r, m] * B[r, n]: two row lists in, one matrix out. dW.
template <class A, class B = A, class S = A>
struct SumProduct {
  std::vector<PairSegment<A, B>> segments;
  Index rows, columns;
  S* c;  // [rows, columns]
};

template <class Segment>
Index rows_of(const std::vector<Segment>& segments) {
  return segments.empty() ? 0 : segments.back().end;
}

// Cuts the stacked rows [first, first + count) where segments end, and calls
// visit(segment, row, n) for each part in order: rows `row` to row + n of that
// segment. The first segment is searched for, the others follow it.
template <class Segment, class Visit>
void visit_rows(const std::vector<Segment>& segments, Index first, Index count,
                const Visit& visit) {
  if (count == 0) return;
  const auto ends_after = [](Index row, const Segment& segment) { return row < segment.end; };
  auto segment = std::upper_bound(segments.begin(), segments.end(), first, ends_after);
  Index start = segment == segments.begin() ? 0 : (segment - 1)->end;
  for (const Index end = first + count; first < end; start = (segment++)->end) {
    const Index n = std::min(segment->end, end) - first;
    visit(*segment, first - start, n);
    first += n;
  }
}

// The same rows with the lists in each other's place: for C^T = B^T . A.
template <class A, class B>
std::vector<PairSegment<B, A>> swapped(const std::vector<PairSegment<A, B>>& segments) {
  std::vector<PairSegment<B, A>> other;
  other.reserve(segments.size());
  for (const PairSegment<A, B>& segment : segments) {
    other.push_back({segment.end, segment.b, segment.a});
  }
  return other;
}

}  // namespace shared_dense
