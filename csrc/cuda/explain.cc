#include "cuda/explain.h"

namespace shared_dense::cuda {
namespace {

std::string of_tiles(TileKind tile, const TileOrder& order, const std::string& arithmetic) {
  const TileSize size = tile_size(tile);
  const Index count = Index{order.row_tiles} * order.column_tiles;
  return std::to_string(count) + (count == 1 ? " tile" : " tiles") + " of " +
         std::to_string(size.rows) + " x " + std::to_string(size.columns) + ", " + arithmetic +
         (tile >= TileKind::kHopperPair ? " by wgmma" : "");
}

}  // namespace

template <>
std::string arithmetic<float>(bool allow_tf32) {
  return allow_tf32 ? "TensorFloat-32 on tensor cores" : "float32 multiply-adds";
}
template <>
std::string arithmetic<double>(bool) {
  return "float64 multiply-adds";
}
template <>
std::string arithmetic<BFloat16>(bool) {
  return "bfloat16 on tensor cores";
}
template <>
std::string arithmetic<Half>(bool) {
  return "float16 on tensor cores";
}

std::string explain(const RowsPlan& plan, const std::string& arithmetic) {
  return of_tiles(plan.tile, plan.order, arithmetic);
}

std::string explain(const SumPlan& plan, const std::string& arithmetic) {
  std::string text = of_tiles(plan.tile, plan.order, arithmetic);
  if (plan.splits > 1) {
    text += ", " + std::to_string(plan.splits) + " sums over " + std::to_string(plan.chunk) +
            " rows each, added in order";
  }
  return text;
}

}  // namespace shared_dense::cuda
