// SSE2 on x86-64: 16 registers, 4 x 2 accumulators.
#include "core/isa/functions.h"

namespace shared_dense {
namespace {

constexpr int kVectorBytes = 16;
constexpr int kRows = 4;
constexpr int kVectors = 2;

// No FMA on the baseline: rounds twice. The one ISA whose bits differ.
typedef float Floats __attribute__((vector_size(kVectorBytes)));
typedef double Doubles __attribute__((vector_size(kVectorBytes)));
inline Floats fma(Floats a, Floats b, Floats c) { return a * b + c; }
inline Doubles fma(Doubles a, Doubles b, Doubles c) { return a * b + c; }

#include "core/isa/isa.inc"

bool supported() { return true; }

}  // namespace

extern const Isa kIsaGeneric = {"generic", &supported, SHARED_DENSE_ISA_FUNCTIONS};

}  // namespace shared_dense
