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

// In `wanted` sums over whole chunks of rows, or fewer.
SumPlan split_sum(TileKind tile, Index m, Index n, Index rows, Index wanted) {
  const Index chunks = std::max<Index>(1, ceil_div(rows, kRowChunk));
  const Index chunk = ceil_div(chunks, std::min(wanted, chunks)) * kRowChunk;
  return {tile, order_of(tile, m, n), static_cast<int>(std::max<Index>(1, ceil_div(rows, chunk))),
          chunk};
}

// Multiprocessors of an H100; a constant, too.
constexpr Index kHopper = 132;

// Two blocks of a cluster share a tile of 256 rows.
Index hopper_blocks(TileKind tile, Index rows, Index columns) {
  return tiles(tile, rows, columns) * (tile == TileKind::kHopperPair ? 2 : 1);
}

// How long tiles take in all, in units of no meaning: the rounds of one tile a
// multiprocessor, each as long as the tile is wide, or somewhat longer where the
// instruction is too narrow to hide what it reads.
Index rounds_cost(TileKind tile, Index rows, Index columns) {
  const Index width = tile == TileKind::kHopperPair     ? 256 * 20
                      : tile == TileKind::kHopperSquare ? 128 * 22
                                                        : 64 * 28;
  return ceil_div(hopper_blocks(tile, rows, columns), kHopper) * width;
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
  return split_sum(tile, m, n, rows, wanted);
}

RowsPlan plan_rows_hopper(Index rows, Index columns) {
  TileKind best = rows <= tile_size(TileKind::kHopperFewest).rows ? TileKind::kHopperFewest
                                                                  : TileKind::kHopperFew;
  if (rows > tile_size(TileKind::kHopperFew).rows) {
    best = TileKind::kHopperPair;
    for (const TileKind tile : {TileKind::kHopperSquare, TileKind::kHopperSlim}) {
      if (rounds_cost(tile, rows, columns) < rounds_cost(best, rows, columns)) best = tile;
    }
  }
  return {best, order_of(best, rows, columns)};
}

SumPlan plan_sum_hopper(Index m, Index n, Index rows) {
  const TileKind tile = hopper_blocks(TileKind::kHopperPair, m, n) >= kHopper
                            ? TileKind::kHopperPair
                            : TileKind::kHopperSquare;
  const Index wanted = kHopper / std::max<Index>(1, hopper_blocks(tile, m, n));
  return split_sum(tile, m, n, rows, std::max<Index>(1, wanted));
}

bool hopper_takes(Index k, Index n) {
  // The copy engine wants rows of whole 16 bytes.
  const auto takes = [](Index size) { return size > 0 && size % 8 == 0 && size <= kMostLines; };
  return takes(k) && takes(n);
}

bool fits_a_grid(Index rows, Index columns) {
  const TileSize least = tile_size(TileKind::kStream);
  const Index most = 0x7fffffff;
  return ceil_div(rows, least.rows) <= most / std::max<Index>(1, ceil_div(columns, least.columns));
}

}  // namespace shared_dense::cuda
