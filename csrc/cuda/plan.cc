#include "cuda/plan.h"

#include <algorithm>

namespace shared_dense::cuda {
namespace {

// Blocks that keep a device busy: an A100 has 108 multiprocessors, an H100 132.
// A constant, so that bits do not depend on the device.
constexpr Index kBusy = 108;

// Row tiles that share their panels of W in L2 while columns pass.
constexpr int kGroup = 8;

// The rows of one tensor-core instruction: with no more, W is all there is to read.
constexpr Index kFewRows = 16;

TileOrder order_of(TileKind tile, Index rows, Index columns) {
  const TileSize size = tile_size(tile);
  return {static_cast<int>(ceil_div(rows, size.rows)),
          static_cast<int>(ceil_div(columns, size.columns)), kGroup};
}

Index tiles(TileKind tile, Index rows, Index columns) {
  const TileSize size = tile_size(tile);
  return ceil_div(rows, size.rows) * ceil_div(columns, size.columns);
}

}  // namespace

RowsPlan plan_rows(Index rows, Index columns, bool has_large) {
  TileKind tile = TileKind::kStream;
  if (rows > kFewRows) {
    if (tiles(TileKind::kMedium, rows, columns) >= kBusy) tile = TileKind::kMedium;
    if (has_large && tiles(TileKind::kLarge, rows, columns) >= kBusy) tile = TileKind::kLarge;
  }
  return {tile, order_of(tile, rows, columns)};
}

SumPlan plan_sum(Index m, Index n, Index rows, bool has_large) {
  const TileKind tile =
      has_large && tiles(TileKind::kLarge, m, n) >= kBusy ? TileKind::kLarge : TileKind::kMedium;
  // Two blocks a multiprocessor at most: partial sums then take a few MB.
  const Index wanted = std::max<Index>(1, 2 * kBusy / std::max<Index>(1, tiles(tile, m, n)));
  const Index chunks = std::max<Index>(1, ceil_div(rows, kRowChunk));
  const Index chunk = ceil_div(chunks, std::min(wanted, chunks)) * kRowChunk;
  return {tile, order_of(tile, m, n), static_cast<int>(std::max<Index>(1, ceil_div(rows, chunk))),
          chunk};
}

bool fits_a_grid(Index rows, Index columns) {
  const TileSize least = tile_size(TileKind::kStream);
  const Index most = 0x7fffffff;
  return ceil_div(rows, least.rows) <= most / std::max<Index>(1, ceil_div(columns, least.columns));
}

}  // namespace shared_dense::cuda
