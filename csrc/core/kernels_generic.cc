// SSE2 on x86-64: 16 registers, 4 x 2 accumulators.
#include <math.h>

#include "core/kernels.h"

namespace shared_dense {
namespace {

constexpr int kRows = 4;
constexpr int kVectors = 2;

#include "core/simd.inc"
// Order matters: the loops use the vectors and the epilogue.
#include "core/epilogue.inc"
#include "core/kernels.inc"

bool supported() { return true; }

}  // namespace

extern const Isa kIsaGeneric = {"generic", &supported, &kKernelSet<float>, &kKernelSet<double>};

}  // namespace shared_dense
