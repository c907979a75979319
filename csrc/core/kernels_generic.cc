// SSE2 on x86-64: 16 registers, 4 x 2 accumulators.
#include "core/kernels.h"

namespace shared_dense {
namespace {

constexpr int kRows = 4;
constexpr int kVectors = 2;

#include "core/isa.inc"

bool supported() { return true; }

}  // namespace

extern const Isa kIsaGeneric = {"generic", &supported, &kKernelSet<float>, &kKernelSet<double>};

}  // namespace shared_dense
