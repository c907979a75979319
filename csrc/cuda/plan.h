// How a product is cut into blocks on a device: a pure function of sizes, so
// that its bits are too. Tested on the host.
#pragma once

#include "core/types.h"

namespace shared_dense::cuda {

// Sizes of a block's tile of the result.
enum class TileKind : std::uint8_t {
  kLarge,   // 128 x 128: the most arithmetic per byte read
  kMedium,  // 64 x 64
  kStream,  // 16 x 32: W is read once by many blocks, each with a deep pipeline
  // Of compute capability 9.0, half types.
  kHopperPair,    // 256 x 256, by two blocks that share W, or what is 256 wide of dW
  kHopperSquare,  // 128 x 128
  kHopperSlim,    // 128 x 64
  kHopperFew,     // 64 x 64, W on the side of the instruction that has 64 rows
  kHopperFewest,  // 16 x 64, likewise
};

struct TileSize {
  int rows, columns;
};

constexpr TileSize tile_size(TileKind kind) {
  switch (kind) {
    case TileKind::kLarge: return {128, 128};
    case TileKind::kMedium: return {64, 64};
    case TileKind::kStream: return {16, 32};
    case TileKind::kHopperPair: return {256, 256};
    case TileKind::kHopperSquare: return {128, 128};
    case TileKind::kHopperSlim: return {128, 64};
    case TileKind::kHopperFew: return {64, 64};
    default: return {16, 64};
  }
}

// Tiles in an order in which the blocks that run together read the same panels:
// `group` tiles of rows go through all columns before the next ones start.
struct TileOrder {
  int row_tiles, column_tiles, group;
};

struct TilePlace {
  int row, column;
};

constexpr TilePlace tile_at(const TileOrder& order, int index) {
  const int per_group = order.group * order.column_tiles;
  const int first = index / per_group * order.group;
  const int rows = order.row_tiles - first < order.group ? order.row_tiles - first : order.group;
  const int in_group = index % per_group;
  return {first + in_group % rows, in_group / rows};
}

struct RowsPlan {
  TileKind tile;
  TileOrder order;
};

// C[m, n] = sum over r of A[r, m] B[r, n] in `splits` sums over `chunk` rows
// each, added in order; one: no partial sums.
struct SumPlan {
  TileKind tile;
  TileOrder order;
  int splits;
  Index chunk;
};

// A large tile of doubles is more than the shared memory of some devices.
template <class S>
inline constexpr bool kHasLarge = sizeof(S) < 8;

RowsPlan plan_rows(Index rows, Index columns, bool has_large);
SumPlan plan_sum(Index m, Index n, Index rows, bool has_large);

// The same on devices of compute capability 9.0, in half types.
RowsPlan plan_rows_hopper(Index rows, Index columns);
SumPlan plan_sum_hopper(Index m, Index n, Index rows);

// Lines and items of a line that the copy engine can count: in 32 bits, with the
// last box.
constexpr Index kMostLines = 0x7fffff00;

// Whether wgmma takes a product over W [k, n] or [n, k], or makes dW [k, n].
// Nothing else about rows or pointers may decide it: its sums may round
// otherwise than those of mma.sync.
bool hopper_takes(Index k, Index n);

// Whether a product's tiles can be counted: a grid holds 2^31 - 1 blocks.
bool fits_a_grid(Index rows, Index columns);

}  // namespace shared_dense::cuda
