// Two row lists in, one matrix out: a sum over chunks of rows, each from zero,
// added in order. Which thread makes a chunk does not show in it.
#include <algorithm>
#include <type_traits>

#include "core/products.h"
#include "core/row_chunks.h"
#include "core/stack.h"

namespace shared_dense {
namespace {

template <class T>
T* allocate(const Context& context, Index items) {
  return static_cast<T*>(context.scratch->allocate(items * sizeof(T)));
}

// Sums are made in the accumulator's type T, and rounded to C's once.
template <class A, class B, class S>
struct SumCall {
  using T = Accumulator<S>;

  const Context& context;
  const IsaFunctions<A>& a_functions;  // to pack A
  const IsaFunctions<B>& b_functions;  // to pack B
  const IsaFunctions<T>& functions;    // to multiply
  const SumProduct<A, B, S>& product;
  const std::vector<RowChunk> chunks;
  const SumPlan plan;
};

// A region of C, and what it takes to make one chunk of it.
template <class T>
struct Region {
  Index row, rows, column, columns;
  std::vector<OutputRow<T>> out;  // its rows, from their first column
  T *a, *b;                       // room for packed panels: a_items(), b_items()

  static Index a_items(const IsaFunctions<T>& functions, Index rows) {
    return ceil_div(rows, functions.rows) * (functions.rows * kRowChunk + kPanelSlack);
  }
  static Index b_items(const IsaFunctions<T>& functions, Index columns) {
    return ceil_div(columns, functions.columns) * (functions.columns * kRowChunk + kPanelSlack);
  }

  Region(const IsaFunctions<T>& functions, Index first_row, Index row_count, Index first_column,
         Index column_count, T* c, Index c_step, T* panels)
      : row(first_row),
        rows(row_count),
        column(first_column),
        columns(column_count),
        out(row_count),
        a(panels),
        b(panels + a_items(functions, row_count)) {
    for (Index i = 0; i < rows; ++i) {
      out[i] = {c + i * c_step, nullptr, nullptr, Activation::kLinear};
    }
  }
};

template <class T>
void add(const T* from, Index count, T* to) {
  for (Index i = 0; i < count; ++i) to[i] += from[i];
}

// A C of few rows: whole vectors of columns of a chunk, with B read where it lies,
// in runs as long as the inputs (5,325 rows of 256 -> 3: 137 -> 70 us; 2 x [2000,
// 500] of 64 -> 1: 37 -> 21 us on one thread). Gives back how many columns they
// are. `a` is packed.
template <class A, class B, class S>
Index stream_chunk(const SumCall<A, B, S>& call, const Region<Accumulator<S>>& region,
                   const B* const* b_rows, Index depth, Index a_stride, Accumulate accumulate) {
  using T = Accumulator<S>;
  const Index step = call.product.columns;
  StreamBlock<B> block{};
  block.rows = region.rows;
  block.columns = region.columns / call.functions.lanes * call.functions.lanes;
  block.a_stride = a_stride;
  block.b_step = step;
  block.sum = region.b;
  block.sum_step = block.columns;
  // Rows that follow each other in memory are read in one run.
  for (Index k = 0; k < depth; k += block.depth) {
    block.depth = 1;
    while (k + block.depth < depth && b_rows[k + block.depth] == b_rows[k] + block.depth * step) {
      ++block.depth;
    }
    block.a = region.a + k * call.functions.rows;
    block.b = b_rows[k] + region.column;
    block.carry = k > 0;
    call.b_functions.stream(block);
  }
  for (Index row = 0; row < region.rows; ++row) {
    const T* sum = block.sum + row * block.sum_step;
    if (accumulate == Accumulate::kAdd) {
      add(sum, block.columns, region.out[row].y);
    } else {
      std::copy_n(sum, block.columns, region.out[row].y);
    }
  }
  return block.columns;
}

// Chunks that follow each other, kRowChunk rows at most: they are packed at once.
// One chunk, or several that are whole sums each.
struct ChunkGroup {
  Index first, count;
  bool starts, ends;        // as RowChunk says
  std::vector<Index> cuts;  // where chunks end, from `first` on
};

std::vector<ChunkGroup> groups_of(const std::vector<RowChunk>& chunks, bool streams) {
  std::vector<ChunkGroup> groups;
  for (const RowChunk& chunk : chunks) {
    // What is streamed goes chunk by chunk.
    const bool joins = !streams && !groups.empty() && chunk.is_whole() && groups.back().starts &&
                       groups.back().ends && groups.back().count + chunk.count <= kRowChunk;
    if (!joins) groups.push_back({chunk.first, 0, chunk.starts, chunk.ends, {}});
    groups.back().cuts.push_back(groups.back().count += chunk.count);
  }
  return groups;
}

// The chunks of a group, stored to or added to their region, one after the other.
template <class A, class B, class S>
void multiply_group(const SumCall<A, B, S>& call, const Region<Accumulator<S>>& region,
                    const ChunkGroup& group, Accumulate accumulate) {
  using T = Accumulator<S>;
  const SumProduct<A, B, S>& product = call.product;
  const int mr = call.functions.rows, nr = call.functions.columns;
  const Index depth = group.count;
  const A* a_rows[kRowChunk];
  const B* b_rows[kRowChunk];
  Index next = 0;
  visit_rows(product.segments, group.first, depth,
             [&](const PairSegment<A, B>& segment, Index from, Index n) {
               for (Index row = from; row < from + n; ++row, ++next) {
                 a_rows[next] = segment.a + row * product.rows;
                 b_rows[next] = segment.b + row * product.columns;
               }
             });
  const Index a_stride = mr * depth + kPanelSlack;
  const Index b_stride = nr * depth + kPanelSlack;
  call.a_functions.pack_straight(a_rows, region.rows, mr, region.row, product.rows - region.row,
                                 depth, region.a, a_stride);
  Index column = 0;
  if (call.plan.streams) {
    column = stream_chunk(call, region, b_rows, depth, a_stride, accumulate);
    if (column == region.columns) return;
  }
  call.b_functions.pack_straight(b_rows, region.columns - column, nr, region.column + column,
                                 product.columns - region.column - column, depth, region.b,
                                 b_stride);
  Block<T> block{};
  block.rows = region.rows;
  block.columns = region.columns - column;
  block.depth = depth;
  block.a = region.a;
  block.b = region.b;
  block.a_stride = a_stride;
  block.b_stride = b_stride;
  block.out = region.out.data();
  block.column = column;
  block.accumulate = accumulate;
  block.finish = false;
  block.ends = group.cuts.data();
  block.chains = static_cast<Index>(group.cuts.size());
  call.functions.multiply(block);
}

// Every task owns a block of C and walks all rows.
template <class A, class B, class S>
bool by_blocks(const SumCall<A, B, S>& call) {
  const SumPlan& plan = call.plan;
  using T = Accumulator<S>;
  const SumProduct<A, B, S>& product = call.product;
  const Index m = product.rows, n = product.columns;
  ThreadPool* threads = plan.parallel ? call.context.threads : nullptr;
  const Index column_blocks = ceil_div(n, plan.column_block);
  const Index tasks = ceil_div(m, plan.row_block) * column_blocks;
  const Index items = Region<T>::a_items(call.functions, plan.row_block) +
                      Region<T>::b_items(call.functions, plan.column_block);
  const Index sums = std::is_same_v<S, T> ? 0 : plan.row_block * plan.column_block;
  const std::vector<ChunkGroup> groups = groups_of(call.chunks, plan.streams);
  const bool has_apart = std::any_of(groups.begin(), groups.end(), [](const ChunkGroup& group) {
    return group.starts && !group.ends && group.first > 0;
  });
  const Index room = items + sums + (has_apart ? plan.row_block * plan.column_block : 0);
  T* scratch = allocate<T>(call.context, worker_count(threads, tasks) * room);
  if (scratch == nullptr) return false;

  parallel_for(threads, tasks, [&](Index task, int worker) {
    const Index row = task / column_blocks * plan.row_block;
    const Index column = task % column_blocks * plan.column_block;
    const Index rows = std::min(plan.row_block, m - row);
    const Index columns = std::min(plan.column_block, n - column);
    T* panels = scratch + worker * room;
    S* c = product.c + row * n + column;
    T* sum = panels + items;
    Index sum_step = columns;
    if constexpr (std::is_same_v<S, T>) {
      sum = c;
      sum_step = n;
    }
    const Region<T> region(call.functions, row, rows, column, columns, sum, sum_step, panels);
    // A sum of several groups is made apart, but for the first.
    const Region<T> apart(call.functions, row, rows, column, columns, panels + items + sums,
                          columns, panels);
    bool first_sum = true;
    for (const ChunkGroup& group : groups) {
      const bool direct = first_sum || (group.starts && group.ends);
      const bool anew = direct ? group.first == 0 : group.starts;
      multiply_group(call, direct ? region : apart, group,
                     anew ? Accumulate::kStart : Accumulate::kAdd);
      for (Index i = 0; i < rows && !direct && group.ends; ++i) {
        add(apart.out[i].y, columns, region.out[i].y);
      }
      first_sum = first_sum && !group.ends;
    }
    if constexpr (!std::is_same_v<S, T>) {
      const IsaFunctions<S>& functions = functions_of<S>(*call.context.isa);
      for (Index i = 0; i < rows; ++i) functions.round(sum + i * columns, columns, c + i * n);
    }
  });
  return true;
}

// A task makes all of C for one chunk; a batch of chunks is then added to C in
// order. For a small C, whose blocks would be few.
template <class A, class B, class S>
bool by_chunks(const SumCall<A, B, S>& call) {
  const Index batch = call.plan.batch;
  using T = Accumulator<S>;
  const SumProduct<A, B, S>& product = call.product;
  const Index m = product.rows, n = product.columns;
  const Index chunks = static_cast<Index>(call.chunks.size());
  const Index items = Region<T>::a_items(call.functions, m) + Region<T>::b_items(call.functions, n);
  T* panels = allocate<T>(call.context, worker_count(call.context.threads, batch) * items);
  T* sums = allocate<T>(call.context, (batch + 2) * m * n);
  if (panels == nullptr || sums == nullptr) return false;
  T* total = sums + batch * m * n;
  T* apart = total + m * n;  // a sum of several chunks, but for the first
  const IsaFunctions<S>& functions = functions_of<S>(*call.context.isa);

  Index first_sum_ends = 0;
  for (const RowChunk& chunk : call.chunks) {
    first_sum_ends = chunk.first + chunk.count;
    if (chunk.ends) break;
  }
  // Two stages a batch: make its chunks, then add them up, every worker a slice of C.
  const Index slices = worker_count(call.context.threads, chunks);
  std::vector<Index> stages;
  for (Index first = 0; first < chunks; first += batch) {
    stages.push_back(std::min(batch, chunks - first));
    stages.push_back(slices);
  }
  parallel_stages(call.context.threads, stages, [&](int stage, Index item, int worker) {
    const Index first = stage / 2 * batch;
    if (stage % 2 == 0) {
      const Region<T> region(call.functions, 0, m, 0, n, sums + item * m * n, n,
                             panels + worker * items);
      const RowChunk& chunk = call.chunks[first + item];
      multiply_group(call, region, {chunk.first, chunk.count, true, true, {chunk.count}},
                     Accumulate::kStart);
      return;
    }
    const Index begin = m * n * item / slices, count = m * n * (item + 1) / slices - begin;
    for (Index i = 0; i < std::min(batch, chunks - first); ++i) {
      const RowChunk& chunk = call.chunks[first + i];
      const T* from = sums + i * m * n + begin;
      if (!chunk.is_whole() && chunk.first >= first_sum_ends) {
        if (chunk.starts) {
          std::copy_n(from, count, apart + begin);
        } else {
          add(from, count, apart + begin);
        }
        if (!chunk.ends) continue;
        from = apart + begin;
      }
      if (chunk.first == 0) {
        std::copy_n(from, count, total + begin);
      } else {
        add(from, count, total + begin);
      }
    }
    if (first + batch >= chunks) functions.round(total + begin, count, product.c + begin);
  });
  return true;
}

template <class A, class B, class S>
bool as_planned(const Context& context, const SumProduct<A, B, S>& product, const SumPlan& plan) {
  const Isa& isa = *context.isa;
  const SumCall<A, B, S> call{context,
                              functions_of<A>(isa),
                              functions_of<B>(isa),
                              functions_of<Accumulator<S>>(isa),
                              product,
                              row_chunks(product.segments),
                              plan};
  return plan.batch > 0 ? by_chunks(call) : by_blocks(call);
}

// C^T = B^T . A is the same sums: taken where C is narrower than it is high, so
// that the long side lies along the vectors.
template <class A, class B, class S>
bool flipped(const Context& context, const SumProduct<A, B, S>& product, const SumPlan& plan) {
  S* const c = allocate<S>(context, product.rows * product.columns);
  if (c == nullptr || !as_planned(context, transposed(product, c), plan)) return false;
  for (Index row = 0; row < product.rows; ++row) {
    for (Index column = 0; column < product.columns; ++column) {
      product.c[row * product.columns + column] = c[column * product.rows + row];
    }
  }
  return true;
}

}  // namespace

template <class S>
SumWay plan_of_sum(const Isa& isa, const Workers& workers, const SumShape& shape) {
  using T = Accumulator<S>;
  const IsaFunctions<T>& functions = functions_of<T>(isa);
  const MicroShape micro{functions.rows, functions.columns, functions.lanes,
                         static_cast<int>(sizeof(T))};
  const bool flips = shape.columns < functions.columns && shape.rows > shape.columns;
  const SumShape made = flips ? SumShape{shape.columns, shape.reduction, shape.rows} : shape;
  return {flips, plan_sum(made, {micro, caches(), workers})};
}

template <class A, class B, class S>
bool sum_product(const Context& context, const SumProduct<A, B, S>& product) {
  const Index m = product.rows, n = product.columns;
  if (m == 0 || n == 0) return true;
  if (product.segments.empty()) {
    std::fill_n(product.c, m * n, S{});
    return true;
  }
  const SumWay way =
      plan_of_sum<S>(*context.isa, workers_of(context), {m, rows_of(product.segments), n});
  return way.flips ? flipped(context, product, way.plan) : as_planned(context, product, way.plan);
}

#define SHARED_DENSE_INSTANTIATE(A, B, S) \
  template bool sum_product(const Context&, const SumProduct<A, B, S>&);
SHARED_DENSE_INSTANTIATE(float, float, float)
SHARED_DENSE_INSTANTIATE(double, double, double)
SHARED_DENSE_INSTANTIATE(BFloat16, float, BFloat16)
SHARED_DENSE_INSTANTIATE(float, BFloat16, BFloat16)
SHARED_DENSE_INSTANTIATE(Half, float, Half)
SHARED_DENSE_INSTANTIATE(float, Half, Half)
#undef SHARED_DENSE_INSTANTIATE

#define SHARED_DENSE_INSTANTIATE(S) \
  template SumWay plan_of_sum<S>(const Isa&, const Workers&, const SumShape&);
SHARED_DENSE_INSTANTIATE(float)
SHARED_DENSE_INSTANTIATE(double)
SHARED_DENSE_INSTANTIATE(BFloat16)
SHARED_DENSE_INSTANTIATE(Half)
#undef SHARED_DENSE_INSTANTIATE

}  // namespace shared_dense
