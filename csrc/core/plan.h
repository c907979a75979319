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

// Who may work on a call.
struct Workers {
  int threads;
  // Multiply-adds from which on a second thread pays: kAsleepWork or kAwakeWork.
  Index worth;
};

// Waking a sleeping thread costs the caller 8 to 25 us and is answered after
// 23 to 80; one that still spins after its last task answers in 0.3 us. Both
// measured in TensorFlow's pool on virtual machines of two cores, where one
// core makes 50 to 100 multiply-adds in a nanosecond.
inline constexpr Index kAsleepWork = Index{5} << 20;
inline constexpr Index kAwakeWork = Index{1} << 19;

// The shape of the micro-kernel that will run.
struct MicroShape {
  int rows;            // MR
  int columns;         // NR
  int lanes;           // of a vector
  int bytes_per_item;  // of the accumulator type
};

enum class RowsPath : std::uint8_t {
  // A is read where it lies: packing it would cost much beside so few
  // multiply-adds an item. B is small and packed whole.
  kInPlace,
  // B is no wider than half a vector: the vectors lie along the rows of A.
  kFlipped,
  // All of A is packed and stays in cache; B is read once, where it lies.
  kStream,
  // Tasks take columns: a block of rows is packed for all of them, and a task
  // packs each panel of B while its first panel of A is multiplied.
  kByColumns,
  // Tasks take rows, for B with too few columns to go round: B is packed once,
  // in chunks that all tasks share; a task packs its rows.
  kByRows,
};

const char* rows_path_name(RowsPath path);

// Rows in, rows out: C[m, n] = A[m, k] . B[k, n] with B shared by all rows.
struct RowsPlan {
  RowsPath path;
  Index depth;         // k per block of packed panels
  Index row_block;     // rows of C per task, a multiple of MR
  Index column_block;  // columns of C per task, a multiple of NR
  Index column_chunk;  // columns of B packed at a time, a multiple of NR
  bool keeps_b;        // kByColumns: B stays packed from one block of rows to the next
  bool depth_first;    // kByColumns: one block of k of all columns of a task before the next
  bool own_copies;     // every worker packs what all tasks read for itself
  bool parallel;
};

// Two row lists in, one matrix out: C[m, n] = sum over r of A[r, m] * B[r, n].
struct SumPlan {
  // Chunks of rows made apart before they are added to C, in order; 0: every
  // task owns a block of C and walks all rows.
  Index batch;
  Index row_block;     // rows of C per task
  Index column_block;  // columns of C per task
  bool streams;        // B is read where it lies: few rows of C share what is read
  bool parallel;
};

// `run`: how many rows of A follow each other in memory, on average.
// `transposed`: B is stored [n, k].
RowsPlan plan_rows(Index m, Index k, Index n, Index run, bool transposed, const MicroShape& micro,
                   const Caches& caches, const Workers& workers);
SumPlan plan_sum(Index m, Index r, Index n, const MicroShape& micro, const Caches& caches,
                 const Workers& workers);

}  // namespace shared_dense
