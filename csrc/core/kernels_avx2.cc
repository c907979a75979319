// 16 registers: 6 x 2 accumulators, 2 of B, 1 splat of A.
#include <immintrin.h>

#include "core/kernels.h"

namespace shared_dense {
namespace {

constexpr int kRows = 6;
constexpr int kVectors = 2;

#include "core/isa.inc"

bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace

extern const Isa kIsaAvx2 = {"avx2", &supported, &kKernelSet<float>, &kKernelSet<double>};

}  // namespace shared_dense
