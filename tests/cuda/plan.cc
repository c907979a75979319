// The plan as a pure function: every tile once, dW's rows once. 0 when it holds.
#include "cuda/plan.h"

#include <cstdio>
#include <set>
#include <utility>

using namespace shared_dense;
using namespace shared_dense::cuda;

namespace {

int wrong = 0;

void expect(bool holds, const char* what, Index a, Index b, Index c) {
  if (holds) return;
  ++wrong;
  std::printf("FAILED %s: %lld, %lld, %lld\n", what, static_cast<long long>(a),
              static_cast<long long>(b), static_cast<long long>(c));
}

// All of a [rows, columns] result is in a tile, and each tile comes once.
void check_order(const TileOrder& order, TileKind tile, Index rows, Index columns) {
  const TileSize size = tile_size(tile);
  expect(Index{order.row_tiles} * size.rows >= rows, "rows without a tile", rows, columns, 0);
  expect(Index{order.row_tiles - 1} * size.rows < rows, "a tile without rows", rows, columns, 0);
  expect(Index{order.column_tiles} * size.columns >= columns, "columns without a tile", rows,
         columns, 0);
  std::set<std::pair<int, int>> seen;
  const int count = order.row_tiles * order.column_tiles;
  for (int i = 0; i < count; ++i) {
    const TilePlace place = tile_at(order, i);
    expect(place.row >= 0 && place.row < order.row_tiles && place.column >= 0 &&
               place.column < order.column_tiles,
           "a tile outside", rows, columns, i);
    seen.insert({place.row, place.column});
  }
  expect(static_cast<int>(seen.size()) == count, "a tile twice", rows, columns, count);
}

void check_sum(const SumPlan& sum, Index m, Index n, Index r) {
  check_order(sum.order, sum.tile, m, n);
  expect(sum.chunk % kRowChunk == 0 && sum.splits >= 1, "a broken chunk", m, n, r);
  expect(sum.splits * sum.chunk >= r, "rows left out", m, n, r);
  expect(sum.splits == 1 || (sum.splits - 1) * sum.chunk < r, "an empty split", m, n, r);
  // Partial sums take at most what two blocks a multiprocessor hold.
  expect(sum.splits == 1 || sum.splits * m * n <= Index{256} * 64 * 64 * 4,
         "partial sums without bound", m, n, r);
}

// Devices of compute capability 9.0.
void check_hopper() {
  for (const Index m : {1, 16, 17, 64, 65, 129, 1000, 8192}) {
    for (const Index n : {8, 64, 72, 1024, 4096, 16896}) {
      const RowsPlan rows = plan_rows_hopper(m, n);
      check_order(rows.order, rows.tile, m, n);
      expect((m <= 16) == (rows.tile == TileKind::kHopperFewest), "the fewest rows", m, n, 0);
      expect((m > 16 && m <= 64) == (rows.tile == TileKind::kHopperFew), "few rows", m, n, 0);
      for (const Index r : {0, 1, 257, 5000, 100000}) check_sum(plan_sum_hopper(m, n, r), m, n, r);
    }
  }
  const auto tile = [](Index rows, Index columns) { return plan_rows_hopper(rows, columns).tile; };
  expect(tile(1024, 1024) == TileKind::kHopperSlim, "a tile a multiprocessor", 1024, 1024, 0);
  expect(tile(1409, 1280) == TileKind::kHopperSquare, "one round of squares", 1409, 1280, 0);
  expect(tile(8192, 4096) == TileKind::kHopperPair, "a large product", 8192, 4096, 0);
  expect(tile(136, 16896) == TileKind::kHopperPair &&
             plan_sum_hopper(136, 16896, 68).tile == TileKind::kHopperPair,
         "what check.cc checks pairs with", 136, 16896, 68);
  // Whole 16 bytes both ways, and something to multiply.
  for (const Index good : {8, 64, 4096}) {
    expect(hopper_takes(good, 8) && hopper_takes(8, good), "refused", good, 0, 0);
    for (const Index bad : {Index{0}, Index{1}, Index{4}, Index{12}, Index{1} << 31}) {
      expect(!hopper_takes(good, bad) && !hopper_takes(bad, good), "taken", good, bad, 0);
    }
  }
}

}  // namespace

int main() {
  check_hopper();
  const Index sizes[] = {1, 3, 16, 17, 31, 64, 100, 129, 1000, 1409, 4096};
  for (const bool has_large : {false, true}) {
    for (const Index m : sizes) {
      for (const Index n : sizes) {
        const RowsPlan rows = plan_rows(m, n, has_large);
        check_order(rows.order, rows.tile, m, n);
        expect(m > 16 || rows.tile == TileKind::kStream, "few rows do not stream", m, n, 0);
        expect(has_large || rows.tile != TileKind::kLarge, "a large tile", m, n, 0);
        for (const Index r : {0, 1, 256, 257, 5000, 100000}) {
          check_sum(plan_sum(m, n, r, has_large), m, n, r);
        }
      }
    }
  }
  const TileKind large = plan_rows(8192, 4096, true).tile;
  expect(large == TileKind::kLarge, "a large product takes other tiles", 8192, 4096, 0);
  expect(!fits_a_grid(Index{1} << 40, 1 << 20) && fits_a_grid(8192, 4096), "grid", 0, 0, 0);
  std::printf(wrong == 0 ? "all checks passed\n" : "FAILED\n");
  return wrong == 0 ? 0 : 1;
}
