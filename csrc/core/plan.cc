#include "core/plan.h"

#include <unistd.h>

#include <algorithm>

namespace shared_dense {
namespace {

// Below this many multiply-adds a call stays on its own thread: 130 us on one
// core with AVX-512. Waking a sleeping thread costs the caller 25 us and is
// answered after 30 to 80 (measured in TensorFlow's pool on a virtual machine);
// calls of 100 us took 110 with a helper, of 150 us 175, of 1130 us 655.
constexpr Index kSerialWork = Index{12} << 20;

// Packed W kept at a time. Bounds the scratch memory for any W, and is large
// enough that one chunk holds W whole up to 2 M float32 weights.
constexpr Index kPackedBytes = Index{8} << 20;

// A sum this small has too few blocks to deal to threads, and its partial sums
// are cheap: 128 x 128 float32, and 4 MB of them at a time.
constexpr Index kSmallSum = Index{64} << 10;
constexpr Index kPartialBytes = Index{4} << 20;

// Tasks per thread that a dynamic schedule needs to even out a slow core.
constexpr Index kTasksPerThread = 4;

// Up to this many rows B is read where it lies: packing it would cost as much
// as multiplying. Chosen, not tuned: the break-even was not searched for.
constexpr Index kStreamRows = 16;

// Rows of B per pass over a stripe: enough that loading and storing the sums
// once per pass is cheap, few enough streams for hardware prefetchers to
// follow. Chosen, not tuned.
constexpr Index kStreamDepth = 16;

constexpr Index kDefaultL1 = Index{32} << 10;
constexpr Index kDefaultL2 = Index{1} << 20;

Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }
Index round_up(Index a, Index b) { return ceil_div(a, b) * b; }
Index at_least(Index a, Index low) { return std::max(a, low); }

// Cuts `size` into the given number of near-equal blocks of whole `unit`s.
Index even_block(Index size, Index blocks, Index unit) {
  return at_least(round_up(ceil_div(size, at_least(blocks, 1)), unit), unit);
}

}  // namespace

Caches caches() {
  static const Caches found = [] {
    Caches c{kDefaultL1, kDefaultL2};
#if defined(_SC_LEVEL1_DCACHE_SIZE)
    const Index l1 = sysconf(_SC_LEVEL1_DCACHE_SIZE);
    const Index l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (l1 > 0) c.l1 = l1;
    if (l2 > 0) c.l2 = l2;
#endif
    return c;
  }();
  return found;
}

const char* rows_path_name(RowsPath path) {
  switch (path) {
    case RowsPath::kNarrow: return "narrow";
    case RowsPath::kStream: return "stream";
    case RowsPath::kFew: return "few";
    case RowsPath::kMany: return "many";
  }
  return "";
}

RowsPlan plan_rows(Index m, Index k, Index n, Index run, bool transposed, const MicroShape& micro,
                   const Caches& caches, int threads) {
  RowsPlan plan{};
  m = at_least(m, 1);
  n = at_least(n, 1);
  plan.parallel = threads > 1 && m * k * n > kSerialWork;
  const Index mr = micro.rows, nr = micro.columns, item = micro.bytes_per_item;

  if (n <= nr && m >= 4 * mr && run >= mr && k * nr * item <= caches.l2 / 4) {
    plan.path = RowsPath::kNarrow;
    plan.depth = at_least(k, 1);
    plan.column_block = plan.column_chunk = nr;
    const Index tasks = plan.parallel ? 2 * kTasksPerThread * threads : 1;
    plan.row_block = even_block(m, tasks, mr);
    return plan;
  }
  const bool streams = m <= kStreamRows && m * k * item <= kPackedBytes;
  if (streams && n >= 2 * nr && !transposed) {
    plan.path = RowsPath::kStream;
    plan.depth = kStreamDepth;
    plan.row_block = round_up(m, mr);
    // The sums of a stripe stay in L2: wide stripes are long runs through B.
    const Index widest = at_least(caches.l2 / 4 / (m * item) / nr * nr, nr);
    const Index tasks = plan.parallel ? kTasksPerThread * threads : 1;
    plan.column_block = std::min(widest, even_block(n, tasks, nr));
    plan.column_chunk = round_up(n, nr);
    return plan;
  }

  // One panel of A (depth x MR) stays in L1 while panels of B stream past. The
  // deeper, the rarer C is loaded and stored. Equal blocks: none is a sliver.
  const Index most_depth = at_least(caches.l1 * 5 / 8 / (mr * item), 64);
  plan.depth = even_block(k, ceil_div(k, most_depth), 1);

  const bool few = m <= n && round_up(m, mr) * k * item <= caches.l2 / 2;
  plan.path = few ? RowsPath::kFew : RowsPath::kMany;
  if (few) {
    plan.row_block = round_up(m, mr);
    plan.column_chunk = round_up(n, nr);
    const Index tasks = plan.parallel ? 2 * kTasksPerThread * threads : 1;
    plan.column_block = even_block(n, tasks, nr);
    return plan;
  }

  // A's block (row_block x depth) stays in a quarter of L2, beside the block of
  // B (depth x column_block) in half of it that every panel of A passes.
  const Index most_rows = at_least(caches.l2 / 4 / (plan.depth * item) / mr * mr, mr);
  const Index most_columns = at_least(caches.l2 / 2 / (plan.depth * item) / nr * nr, nr);
  plan.row_block = even_block(m, ceil_div(m, most_rows), mr);
  plan.column_chunk =
      std::min(round_up(n, nr), at_least(kPackedBytes / (at_least(k, 1) * item) / nr * nr, nr));
  plan.column_block = even_block(plan.column_chunk, ceil_div(plan.column_chunk, most_columns), nr);
  if (plan.parallel) {
    // Rows first: a task packs its rows once for all the columns it takes.
    const Index wanted = kTasksPerThread * threads;
    plan.row_block =
        even_block(m, std::max(ceil_div(m, most_rows), std::min(wanted, ceil_div(m, 4 * mr))), mr);
    const Index row_blocks = ceil_div(m, plan.row_block);
    const Index column_blocks =
        std::min(ceil_div(wanted, row_blocks), ceil_div(plan.column_chunk, 4 * nr));
    plan.column_block =
        std::min(plan.column_block, even_block(plan.column_chunk, column_blocks, nr));
  }
  return plan;
}

SumPlan plan_sum(Index m, Index r, Index n, const MicroShape& micro, const Caches& caches,
                 int threads) {
  SumPlan plan{};
  plan.parallel = threads > 1 && m * r * n > kSerialWork;
  const Index chunks = ceil_div(r, kRowChunk), c_bytes = m * n * micro.bytes_per_item;
  if (plan.parallel && c_bytes <= kSmallSum && chunks >= 2 * threads) {
    plan.batch = std::min(chunks, at_least(kPartialBytes / c_bytes, threads));
    plan.row_block = round_up(m, micro.rows);
    plan.column_block = round_up(n, micro.columns);
    return plan;
  }
  const Index mr = micro.rows, nr = micro.columns, item = micro.bytes_per_item;
  const Index depth = std::min(at_least(r, 1), kRowChunk);

  // Both packed blocks (row_block x depth, depth x column_block) stay in a
  // quarter of L2 each, beside the part of C they add to.
  const Index most = caches.l2 / 4 / (depth * item);
  const Index most_rows = at_least(most / mr * mr, mr);
  const Index most_columns = at_least(most / nr * nr, nr);
  Index row_blocks = ceil_div(at_least(m, 1), most_rows);
  Index column_blocks = ceil_div(at_least(n, 1), most_columns);
  if (plan.parallel) {
    const Index wanted = kTasksPerThread * threads;
    row_blocks =
        std::max(row_blocks, std::min(ceil_div(wanted, column_blocks), ceil_div(m, 2 * mr)));
    if (row_blocks * column_blocks < wanted) {
      column_blocks =
          std::max(column_blocks, std::min(ceil_div(wanted, row_blocks), ceil_div(n, 2 * nr)));
    }
  }
  plan.row_block = even_block(m, row_blocks, mr);
  plan.column_block = even_block(n, column_blocks, nr);
  return plan;
}

}  // namespace shared_dense
