// How one product is cut into blocks: a pure function of sizes and caches.
#pragma once

#include "core/types.h"

namespace shared_dense {

struct Caches {
  Index l1;  // bytes of data cache of one core
  Index l2;
};

// Read once from the system; a guess where it does not say.
Caches caches();

// The shape of the micro-kernel that will run.
struct MicroShape {
  int rows;            // MR
  int columns;         // NR
  int bytes_per_item;  // of the accumulator type
};

enum class RowsPath : std::uint8_t {
  // B is a single panel, packed; A is read where it lies, once: packing it
  // would serve that one panel only.
  kNarrow,
  // All of A is packed and stays in cache; B is read once, where it lies.
  kStream,
  // All of A is packed and stays in cache; a task packs the columns of B it is
  // about to use into a block that never leaves L1 or L2.
  kFew,
  // B is packed once, in chunks that all tasks share; a task packs its rows.
  kMany,
};

const char* rows_path_name(RowsPath path);

// Rows in, rows out: C[m, n] = A[m, k] . B[k, n] with B shared by all rows.
struct RowsPlan {
  RowsPath path;
  Index depth;         // k per block
  Index row_block;     // rows of C per task, a multiple of MR
  Index column_block;  // columns of C per task, a multiple of NR
  Index column_chunk;  // columns of B packed at a time, a multiple of NR
  bool parallel;
};

// Two row lists in, one matrix out: C[m, n] = sum over r of A[r, m] * B[r, n].
struct SumPlan {
  // Chunks of rows made apart before they are added to C, in order; 0: every
  // task owns a block of C and walks all rows.
  Index batch;
  Index row_block;     // rows of C per task
  Index column_block;  // columns of C per task
  bool parallel;
};

// `run`: how many rows of A follow each other in memory, on average.
// `transposed`: B is stored [n, k].
RowsPlan plan_rows(Index m, Index k, Index n, Index run, bool transposed, const MicroShape& micro,
                   const Caches& caches, int threads);
SumPlan plan_sum(Index m, Index r, Index n, const MicroShape& micro, const Caches& caches,
                 int threads);

}  // namespace shared_dense
