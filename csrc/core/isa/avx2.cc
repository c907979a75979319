// 16 registers: 6 x 2 accumulators, 2 of B, 1 splat of A.
#include <cpuid.h>
#include <immintrin.h>

#include "core/isa/functions.h"

namespace shared_dense {
namespace {

#define SHARED_DENSE_F16C
constexpr int kVectorBytes = 32;
constexpr int kRows = 6;
constexpr int kVectors = 2;

inline __m256 fma(__m256 a, __m256 b, __m256 c) { return _mm256_fmadd_ps(a, b, c); }
inline __m256d fma(__m256d a, __m256d b, __m256d c) { return _mm256_fmadd_pd(a, b, c); }

#include "core/isa/isa.inc"

bool supported() {
  unsigned a, b, c, d;
  const bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);  // Clang has no name for it
  return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

}  // namespace

extern const Isa kIsaAvx2 = {"avx2", &supported, SHARED_DENSE_ISA_FUNCTIONS};

}  // namespace shared_dense
