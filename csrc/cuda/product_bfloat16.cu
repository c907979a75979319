#include "cuda/mma_tile.h"
#include "cuda/product.h"

namespace shared_dense::cuda {

using Type = BFloat16;
// Rows, columns and depth of a block, rows and columns of a warp, stages.
template <bool kA, bool kB>
using Large = MmaTile<Type, 128, 128, 32, 64, 32, 4, kA, kB>;
template <bool kA, bool kB>
using Medium = MmaTile<Type, 64, 64, 64, 32, 32, 4, kA, kB>;
template <bool kA, bool kB>
using Stream = MmaTile<Type, 16, 32, 64, 16, 16, 8, kA, kB>;

#include "cuda/product.inc"

}  // namespace shared_dense::cuda
