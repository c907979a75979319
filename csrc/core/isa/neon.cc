// 32 registers: 6 x 4 accumulators, 4 of B, 1 splat of A. The squarest tile that
// fits in vectors: 10 loads, as a splat is one too, per 24 multiply-adds.
#include <arm_neon.h>

#include "core/isa/functions.h"

namespace shared_dense {
namespace {

constexpr int kVectorBytes = 16;
constexpr int kRows = 6;
constexpr int kVectors = 4;

// The addend comes first here.
inline float32x4_t fma(float32x4_t a, float32x4_t b, float32x4_t c) { return vfmaq_f32(c, a, b); }
inline float64x2_t fma(float64x2_t a, float64x2_t b, float64x2_t c) { return vfmaq_f64(c, a, b); }

#include "core/isa/isa.inc"

bool supported() { return true; }  // part of every aarch64

}  // namespace

extern const Isa kIsaNeon = {"neon", &supported, SHARED_DENSE_ISA_FUNCTIONS};

}  // namespace shared_dense
