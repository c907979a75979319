#include "core/plan.h"

#include <unistd.h>

#include <algorithm>

namespace shared_dense {
namespace {

// Reading an item of an operand, or writing one of C, costs as much as this many
// multiply-adds.
constexpr Index kReadCost = 4;

// Packed operand kept at a time. Bounds the scratch memory for any shape, and
// more is slower: memory that the allocator has to ask the system for anew costs
// 0.25 us a page (8 MB for 2 x 1024 rows of 1024: 10 % of the call). A block of
// rows is allowed more where it would be too few rows to share a panel of B.
constexpr Index kPackedBytes = Index{3} << 19;
constexpr Index kMostPackedBytes = Index{8} << 20;

// Up to this size B stays packed while blocks of rows pass.
constexpr Index kKeptBytes = Index{4} << 20;

// A sum this small has too few blocks to deal to threads, and its partial sums
// are cheap: 128 x 128 float32, and 4 MB of them at a time.
constexpr Index kSmallSum = Index{64} << 10;
constexpr Index kPartialBytes = Index{4} << 20;

// Tasks per thread that a dynamic schedule needs to even out a slow core.
constexpr Index kTasksPerThread = 4;

// Up to this many rows B is read where it lies: packing it would cost as much
// as multiplying. Chosen, not tuned: the break-even was not searched for.
constexpr Index kStreamRows = 16;

// What a B that is read again and again is likely to find in a cache.
constexpr Index kCachedBytes = Index{16} << 20;

// Up to this many workers each packs a copy of its own of what all tasks read:
// sharing the packing costs a stage, and writing lines that another core holds
// from the call before 0.5 to 1 ns an item, where packing alone takes 0.1.
constexpr int kOwnCopies = 4;

// k per block where B is packed by transposition: the block of B and the panel
// of A it meets then stay in L1. With more rows to share it, C counts more.
constexpr Index kTransposedDepth = 128;
constexpr Index kTransposedDepthManyRows = 256;

// Packing A costs about half a cycle an item: beside a depth this small, or
// without this many panels of B to share it, too much.
constexpr Index kShallowDepth = 64;
constexpr Index kPackingPays = 8;

// Depths are whole vectors: what is left over is packed item by item.
constexpr Index kDepthUnit = 16;

constexpr Index kDefaultL1 = Index{32} << 10;
constexpr Index kDefaultL2 = Index{1} << 20;

Index round_up(Index a, Index b) { return ceil_div(a, b) * b; }
Index at_least(Index a, Index low) { return std::max(a, low); }

// Cuts `size` into the given number of near-equal blocks of whole `unit`s.
Index even_block(Index size, Index blocks, Index unit) {
  return at_least(round_up(ceil_div(size, at_least(blocks, 1)), unit), unit);
}

// Multiply-adds, or what moving the items costs if that is more. In floating
// point: three sizes may multiply past int64.
double work(Index m, Index k, Index n) {
  const auto size = [](Index items) {
    return static_cast<double>(items == 0 ? 0 : std::max(items, kReadCost));
  };
  return size(m) * size(k) * size(n);
}

// The part of the time that threads are busy with `tasks` equal tasks.
double balance(Index tasks, int threads) {
  return static_cast<double>(tasks) / (threads * ceil_div(tasks, threads));
}

// What the planners below know of the machine, for so much work.
struct Planner {
  const Index mr, nr, lanes, item;
  const Caches caches;
  const int threads;
  const bool parallel;

  Planner(const Machine& machine, double work)
      : mr(machine.micro.rows),
        nr(machine.micro.columns),
        lanes(machine.micro.lanes),
        item(machine.micro.bytes_per_item),
        caches(machine.caches),
        threads(machine.workers.threads),
        parallel(threads > 1 && work > machine.workers.worth) {}
};

// Chooses the way through a rows product, and its blocks. What each way is for
// stands above its function in rows_product.cc.
struct RowsPlanner : Planner {
  const RowsShape& shape;
  const Index m = at_least(shape.rows, 1), k = shape.depth, n = at_least(shape.columns, 1);
  const bool few_workers = parallel && threads <= kOwnCopies;

  RowsPlanner(const RowsShape& of, const Machine& machine)
      : Planner(machine, work(at_least(of.rows, 1), of.depth, at_least(of.columns, 1))),
        shape(of) {}

  RowsPlan plan() const {
    if (reads_in_place()) return in_place();
    if (streams()) return stream();
    return takes_columns() ? by_columns() : by_rows();
  }

  RowsPlan start(RowsPath path, Index depth) const {
    RowsPlan plan{};
    plan.path = path;
    plan.depth = depth;
    plan.own_copies = few_workers;
    plan.parallel = parallel;
    return plan;
  }

  // Inputs long enough to fill tiles alone, and a B that costs little to pack beside
  // A, stays in L2 and leaves tasks enough to go round.
  bool reads_in_place() const {
    // Rows of A a multiple of half a KiB apart would displace each other in L1.
    const bool apart = k * item % 512 != 0;
    const bool pays = n <= nr || k <= kShallowDepth ||
                      (apart && shape.segment_rows >= 4 * mr && n <= kPackingPays * nr);
    return m >= 4 * mr && shape.segment_rows >= mr && pays &&
           k * round_up(n, nr) * item <= caches.l2 / 2 &&
           (!parallel || n <= nr || balance(ceil_div(m, mr), threads) > 0.9);
  }

  RowsPlan in_place() const {
    const bool flips = n <= std::min(lanes / 2, mr);
    RowsPlan plan = start(flips ? RowsPath::kFlipped : RowsPath::kInPlace, at_least(k, 1));
    plan.column_block = plan.column_chunk = round_up(n, nr);
    const Index tasks = parallel ? 2 * kTasksPerThread * threads : 1;
    plan.row_block = even_block(m, tasks, flips ? nr : mr);
    return plan;
  }

  bool streams() const {
    return m <= kStreamRows && round_up(m, mr) * k * item <= kMostPackedBytes && n >= 2 * nr &&
           !shape.b_transposed;
  }

  RowsPlan stream() const {
    RowsPlan plan = start(RowsPath::kStream, at_least(k, 1));
    plan.row_block = round_up(m, mr);
    // The sums of a stripe stay in L2: wide stripes are long runs through B.
    const Index widest = at_least(caches.l2 / 4 / (m * item) / nr * nr, nr);
    // A B that comes from memory comes fastest in a few long runs.
    const bool cached = k * n * item <= kCachedBytes;
    const Index tasks = parallel ? (cached ? kTasksPerThread : 1) * threads : 1;
    plan.column_block = std::min(widest, even_block(n, tasks, nr));
    plan.column_chunk = round_up(n, nr);
    return plan;
  }

  // A panel of B (depth x NR) serves all panels of A of its block, which stream
  // past it from L2. The deeper, the rarer C is loaded and stored. Equal blocks:
  // none is a sliver.
  Index panel_depth() const {
    Index most = at_least(caches.l1 * 5 / 8 / (mr * item), 64);
    if (shape.b_transposed)
      most = m <= 2 * kStreamRows ? kTransposedDepth : kTransposedDepthManyRows;
    return even_block(k, ceil_div(k, most), kDepthUnit);
  }

  Index wanted_tasks() const { return parallel ? kTasksPerThread * threads : 1; }

  // Whether columns go round at least as evenly as rows.
  bool takes_columns() const {
    const Index panels = ceil_div(n, nr), row_panels = ceil_div(m, mr);
    const double busy = balance(panels, threads) * ceil_div(n, lanes) / (panels * (nr / lanes));
    return panels >= wanted_tasks() || row_panels <= panels ||
           (parallel && busy > balance(row_panels, threads));
  }

  RowsPlan by_columns() const {
    RowsPlan plan = start(RowsPath::kByColumns, panel_depth());
    const Index row_bytes = at_least(k, 1) * item;
    const bool keeps = row_bytes * round_up(n, nr) <= kKeptBytes;
    // Packed rows stay in half of L2 where B costs nothing to meet again.
    const Index rows_bytes = keeps ? caches.l2 / 2 : kPackedBytes;
    const Index few_rows = std::min(8 * mr, kMostPackedBytes / row_bytes);
    const Index most_rows = at_least(std::max(rows_bytes / row_bytes, few_rows) / mr * mr, mr);
    plan.row_block = even_block(m, ceil_div(m, most_rows), mr);
    plan.keeps_b = keeps && plan.row_block < m;
    plan.column_chunk = round_up(n, nr);
    plan.column_block = even_block(n, parallel ? 4 * wanted_tasks() : 1, nr);
    // Packed rows that leave L2 are read again for every panel: so part by part.
    plan.depth_first = !plan.keeps_b && plan.row_block * row_bytes > caches.l2 / 2;
    return plan;
  }

  RowsPlan by_rows() const {
    RowsPlan plan = start(RowsPath::kByRows, panel_depth());
    // A's block (row_block x depth) stays in a quarter of L2.
    const Index most_rows = at_least(caches.l2 / 4 / (plan.depth * item) / mr * mr, mr);
    plan.column_chunk =
        std::min(round_up(n, nr), at_least(kPackedBytes / (at_least(k, 1) * item) / nr * nr, nr));
    plan.column_block = plan.column_chunk;
    const Index row_blocks = ceil_div(m, most_rows), wanted = wanted_tasks();
    plan.row_block = even_block(m, parallel ? std::max(row_blocks, 2 * wanted) : row_blocks, mr);
    const Index tasks = ceil_div(m, plan.row_block);
    if (parallel && tasks < wanted) {
      plan.column_block = even_block(plan.column_chunk, ceil_div(wanted, tasks), nr);
    }
    plan.own_copies = few_workers && plan.column_chunk * k * item <= caches.l2 / 2;
    return plan;
  }
};

// Likewise of a sum product, by sum_product.cc.
struct SumPlanner : Planner {
  const Index m, r, n;

  SumPlanner(const SumShape& of, const Machine& machine)
      : Planner(machine, work(of.rows, of.reduction, of.columns)),
        m(of.rows),
        r(of.reduction),
        n(of.columns) {}

  SumPlan plan() const { return takes_chunks() ? by_chunks() : by_blocks(); }

  SumPlan start() const {
    SumPlan plan{};
    plan.streams = m <= kStreamRows && n >= lanes;
    plan.parallel = parallel;
    return plan;
  }

  Index chunks() const { return ceil_div(r, kRowChunk); }
  Index c_bytes() const { return m * n * item; }

  bool takes_chunks() const {
    // Both operands of a chunk are packed whole by every thread.
    const Index packed = (round_up(m, mr) + round_up(n, nr)) * kRowChunk;
    const bool fits = packed * item <= caches.l2 / 2;
    return parallel && c_bytes() <= kSmallSum && fits && chunks() >= 2 * threads;
  }

  SumPlan by_chunks() const {
    SumPlan plan = start();
    plan.batch = std::min(chunks(), at_least(kPartialBytes / c_bytes(), threads));
    plan.row_block = round_up(m, mr);
    plan.column_block = round_up(n, nr);
    return plan;
  }

  SumPlan by_blocks() const {
    SumPlan plan = start();
    const Index depth = std::min(at_least(r, 1), kRowChunk);
    // Both packed blocks (row_block x depth, depth x column_block) stay in a
    // quarter of L2 each, beside the part of C they add to.
    const Index most = caches.l2 / 4 / (depth * item);
    const Index most_rows = at_least(most / mr * mr, mr);
    const Index most_columns = at_least(most / nr * nr, nr);
    Index row_blocks = ceil_div(at_least(m, 1), most_rows);
    Index column_blocks = ceil_div(at_least(n, 1), most_columns);
    if (parallel) {
      const Index wanted = 2 * threads;
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
};

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
    case RowsPath::kInPlace: return "in_place";
    case RowsPath::kFlipped: return "flipped";
    case RowsPath::kStream: return "stream";
    case RowsPath::kByColumns: return "by_columns";
    case RowsPath::kByRows: return "by_rows";
  }
  return "";
}

RowsPlan plan_rows(const RowsShape& shape, const Machine& machine) {
  return RowsPlanner(shape, machine).plan();
}

SumPlan plan_sum(const SumShape& shape, const Machine& machine) {
  return SumPlanner(shape, machine).plan();
}

}  // namespace shared_dense
