// 32 registers: 14 x 2 accumulators, 2 of B; A is splat from memory.
#include <immintrin.h>

#include "core/kernels.h"

namespace shared_dense {
namespace {

constexpr int kRows = 14;
constexpr int kVectors = 2;

#include "core/isa.inc"

bool supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
}

}  // namespace

extern const Isa kIsaAvx512 = {"avx512", &supported, &kKernelSet<float>, &kKernelSet<double>};

}  // namespace shared_dense
