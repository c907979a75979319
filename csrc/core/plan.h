// How one product is cut into blocks: a pure function of sizes and caches.
#pragma once

#include "core/types.h"

namespace shared_dense {

struct Caches {
  Index l1;  // bytes of data cache of one core
  Index l2;
};

// Read once from the system; a guess where it does not say.
SHARED_DENSE_API Caches caches();

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

// What a product is cut for.
struct Machine {
  MicroShape micro;
  Caches caches;
  Workers workers;
};

// Rows in, rows out: C[rows, columns] = A[rows, depth] . B[depth, columns] with B
// shared by all rows.
struct RowsShape {
  Index rows, depth, columns;
  Index segment_rows;  // rows of A that follow each other in memory, on average
  bool b_transposed;   // B is stored [columns, depth]
};

// Two row lists in, one matrix out: C[rows, columns] = sum over r < reduction of
// A[r, rows] * B[r, columns].
struct SumShape {
  Index rows, reduction, columns;
};

// The ways through a rows product. Each has a function in rows_product.cc, which
// says what it is for.
enum class RowsPath : std::uint8_t { kInPlace, kFlipped, kStream, kByColumns, kByRows };

SHARED_DENSE_API const char* rows_path_name(RowsPath path);

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

struct SumPlan {
  // Chunks of rows made apart before they are added to C, in order; 0: every
  // task owns a block of C and walks all rows.
  Index batch;
  Index row_block;     // rows of C per task
  Index column_block;  // columns of C per task
  bool streams;        // B is read where it lies: few rows of C share what is read
  bool parallel;
};

SHARED_DENSE_API RowsPlan plan_rows(const RowsShape& shape, const Machine& machine);
SHARED_DENSE_API SumPlan plan_sum(const SumShape& shape, const Machine& machine);

}  // namespace shared_dense
