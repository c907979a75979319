#include "cuda/product.h"
#include "cuda/tf32_tile.h"

namespace shared_dense::cuda {

using Type = Tf32;
// Rows, columns and depth of a block, rows and columns of a warp, stages.
template <bool kA, bool kB>
using Large = Tf32Tile<128, 128, 16, 64, 32, 4, kA, kB>;
template <bool kA, bool kB>
using Medium = Tf32Tile<64, 64, 32, 32, 32, 4, kA, kB>;
template <bool kA, bool kB>
using Stream = Tf32Tile<16, 32, 64, 16, 16, 4, kA, kB>;

#include "cuda/product.inc"

}  // namespace shared_dense::cuda
