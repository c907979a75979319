// For tests only: the code that AVX-512 runs (16 lanes, its tile) on any machine
// with AVX2. The compiler halves every vector, and the tile spills: slow.
#include <immintrin.h>

#include "core/isa/functions.h"

namespace shared_dense {
namespace {

constexpr int kVectorBytes = 64;
constexpr int kRows = 14;
constexpr int kVectors = 2;

typedef float Floats __attribute__((vector_size(kVectorBytes)));
typedef double Doubles __attribute__((vector_size(kVectorBytes)));

template <class Wide, class Narrow>
union Halves {
  Wide whole;
  Narrow half[2];
};

inline Floats fma(Floats a, Floats b, Floats c) {
  using Pair = Halves<Floats, __m256>;
  const Pair x{a}, y{b};
  Pair z{c};
  for (int i = 0; i < 2; ++i) z.half[i] = _mm256_fmadd_ps(x.half[i], y.half[i], z.half[i]);
  return z.whole;
}
inline Doubles fma(Doubles a, Doubles b, Doubles c) {
  using Pair = Halves<Doubles, __m256d>;
  const Pair x{a}, y{b};
  Pair z{c};
  for (int i = 0; i < 2; ++i) z.half[i] = _mm256_fmadd_pd(x.half[i], y.half[i], z.half[i]);
  return z.whole;
}

#include "core/isa/isa.inc"

bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace

extern const Isa kIsaAvx2Wide = {"avx2_wide", &supported, SHARED_DENSE_ISA_FUNCTIONS};

}  // namespace shared_dense
