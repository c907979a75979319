#include "cuda/product.h"
#include "cuda/simt_tile.h"

namespace shared_dense::cuda {

using Type = double;
// Rows, columns and depth of a block, rows and columns of a thread, stages.
template <bool kA, bool kB>
using Medium = SimtTile<Type, 64, 64, 16, 4, 4, 3, kA, kB>;
template <bool kA, bool kB>
using Large = Medium<kA, kB>;  // only named: kHasLarge is false
template <bool kA, bool kB>
using Stream = SimtTile<Type, 16, 32, 16, 4, 1, 6, kA, kB>;

#include "cuda/product.inc"

}  // namespace shared_dense::cuda
