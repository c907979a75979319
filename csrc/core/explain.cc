#include "core/explain.h"

#include <algorithm>

#include "core/products.h"

namespace shared_dense {
namespace {

std::string text(Index number) { return std::to_string(number); }

Index sum(const std::vector<Index>& rows) {
  Index total = 0;
  for (const Index count : rows) total += count;
  return total;
}

// Of inputs with these rows. Those without any are not stacked.
RowsShape rows_shape(const std::vector<Index>& inputs, Index depth, Index columns,
                     bool b_transposed) {
  const Index rows = sum(inputs);
  const Index segments =
      static_cast<Index>(inputs.size()) - std::count(inputs.begin(), inputs.end(), 0);
  return {rows, depth, columns, rows / std::max<Index>(segments, 1), b_transposed};
}

std::string of_workers(bool parallel, const Workers& workers) {
  if (parallel) return text(workers.threads) + " threads";
  if (workers.threads == 1) return "one thread, having no other";
  return "one thread: less work than the " + text(workers.worth) +
         " multiply-adds from which a second one pays";
}

std::string of_rows(const RowsPlan& plan, const RowsShape& shape, const Workers& workers) {
  if (shape.rows == 0 || shape.columns == 0) return "nothing to compute";
  if (shape.depth == 0) return "no sums: bias and activation alone";
  const std::string tile = text(std::min(plan.row_block, shape.rows)) + " rows x " +
                           text(std::min(plan.column_block, shape.columns)) + " columns";
  std::string how;
  switch (plan.path) {
    case RowsPath::kInPlace: how = "rows are read where they lie, the kernel is packed"; break;
    case RowsPath::kFlipped: how = "vectors lie along the rows, the kernel has few columns"; break;
    case RowsPath::kStream: how = "the kernel is read once, where it lies"; break;
    case RowsPath::kByColumns:
      how = plan.keeps_b ? "tasks take columns, the kernel stays packed between blocks of rows"
                         : "tasks take columns and pack the kernel while they multiply";
      break;
    case RowsPath::kByRows: how = "tasks take rows, the kernel is packed once"; break;
  }
  return std::string(rows_path_name(plan.path)) + " (" + how + "), blocks of " + tile + ", depth " +
         text(plan.depth) + ", " +
         (plan.own_copies ? "a copy of the packed kernel for each of " : "") +
         of_workers(plan.parallel, workers);
}

}  // namespace

template <class S>
std::string explain_forward(const Isa& isa, const Workers& workers, const CallShape& shape) {
  const RowsShape product =
      rows_shape(shape.rows, shape.in_features, shape.units, shape.transpose_kernel);
  return "forward: " + of_rows(plan_of<S, S>(isa, workers, product), product, workers);
}

template <class S>
std::string explain_input_gradient(const Isa& isa, const Workers& workers, const CallShape& shape) {
  const RowsShape product =
      rows_shape(shape.rows, shape.units, shape.in_features, !shape.transpose_kernel);
  return "input gradient: " +
         of_rows(plan_of<Accumulator<S>, S>(isa, workers, product), product, workers);
}

template <class S>
std::string explain_kernel_gradient(const Isa& isa, const Workers& workers,
                                    const CallShape& shape) {
  const Index reduction = sum(shape.rows);
  const Index m = shape.transpose_kernel ? shape.units : shape.in_features;
  const Index n = shape.transpose_kernel ? shape.in_features : shape.units;
  std::string line = "kernel gradient: ";
  if (m == 0 || n == 0) return line + "nothing to compute";
  if (reduction == 0) return line + "zeros, there being no rows";
  const auto [flips, plan] = plan_of_sum<S>(isa, workers, {m, reduction, n});
  const Index rows = flips ? n : m, columns = flips ? m : n;
  if (plan.batch > 0) {
    line += "by_chunks (tasks take chunks of " + text(kRowChunk) + " rows, " + text(plan.batch) +
            " at a time)";
  } else {
    line += "by_blocks (tasks own blocks of " + text(std::min(plan.row_block, rows)) + " x " +
            text(std::min(plan.column_block, columns)) + " and walk all rows)";
  }
  if (flips) line += ", the result computed transposed";
  if (plan.streams) line += ", the long side is read where it lies";
  return line + ", " + of_workers(plan.parallel, workers);
}

#define SHARED_DENSE_INSTANTIATE(S)                                                             \
  template std::string explain_forward<S>(const Isa&, const Workers&, const CallShape&);        \
  template std::string explain_input_gradient<S>(const Isa&, const Workers&, const CallShape&); \
  template std::string explain_kernel_gradient<S>(const Isa&, const Workers&, const CallShape&);
SHARED_DENSE_INSTANTIATE(float)
SHARED_DENSE_INSTANTIATE(double)
SHARED_DENSE_INSTANTIATE(BFloat16)
SHARED_DENSE_INSTANTIATE(Half)
#undef SHARED_DENSE_INSTANTIATE

}  // namespace shared_dense
