// 32 registers: 14 x 2 accumulators, 2 of B; A is splat from memory.
#include <immintrin.h>

#include "core/isa/functions.h"

namespace shared_dense {
namespace {

#define SHARED_DENSE_AVX512
constexpr int kVectorBytes = 64;
constexpr int kRows = 14;
constexpr int kVectors = 2;

inline __m512 fma(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
inline __m512d fma(__m512d a, __m512d b, __m512d c) { return _mm512_fmadd_pd(a, b, c); }

#include "core/isa/isa.inc"

bool supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
}

}  // namespace

extern const Isa kIsaAvx512 = {"avx512", &supported, SHARED_DENSE_ISA_FUNCTIONS};

}  // namespace shared_dense
