#include "cuda/hopper_kernel.h"

namespace shared_dense::cuda {

using Type = BFloat16;

#include "cuda/hopper.inc"

}  // namespace shared_dense::cuda
