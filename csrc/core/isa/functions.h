// What each instruction set provides: the same functions, compiled from
// isa.inc once per ISA with that ISA's flags.
//
// This header is included by those files, so it holds declarations only: an
// inline function here would be compiled with AVX-512 in one object and
// without in another, and the linker would keep whichever it likes.
#pragma once

#include "core/activation.h"
#include "core/types.h"

namespace shared_dense {

// Throughout, S is the type that operands and results are stored in, and
// Accumulator<S> the one that panels and sums are made of.

// Where one row of C goes, and what happens to it on its way.
template <class T>
struct OutputRow {
  T* y;
  T* pre_activation;  // nullptr: not wanted
  const T* bias;      // nullptr: none
  Activation activation;
};

// What a block does with what C already holds.
enum class Accumulate : std::uint8_t {
  kStart,     // nothing: C has no value yet
  kContinue,  // C holds the chain so far: carry it on, multiply-add by multiply-add
  kAdd,       // C holds finished chains: make these from zero, then add them (with `ends`)
};

// One block of C: rows x columns, as packed panels of A times packed panels of B.
template <class S>
struct Block {
  using T = Accumulator<S>;
  Index rows, columns, depth;
  const T* a;      // panels of MR rows, each [depth][MR]
  T* b;            // panels of NR columns, each [depth][NR]
  Index a_stride;  // items from one panel of A to the next
  Index b_stride;  // likewise of B
  // Where B lies unpacked, [depth, b_step]; nullptr: `b` is packed. The first
  // panel of A reads it there and packs it into `b` on the way: the copy costs
  // nothing beside the arithmetic. Whole panels of S = Accumulator<S> only.
  const T* b_source;
  Index b_step;
  const OutputRow<S>* out;  // one per row
  Index column;             // first column of C, an offset into y, pre_activation and bias
  // Where unfinished sums are kept, [rows, partial_step] from the block's first
  // column; nullptr: in y, which then is of the accumulator's type.
  T* partial;
  Index partial_step;
  Accumulate accumulate;
  bool finish;  // last block of the chain: apply the epilogue
  // Of a sum of several chains (S its own accumulator, nothing to finish, B
  // packed): where they end, the last at `depth`. At most 1 chain: not read.
  const Index* ends;
  Index chains;
};

// All of some rows of C, with A read where it lies. Rows of A follow each
// other, and so do rows of C.
template <class T>
struct InPlaceBlock {
  Index rows, columns, depth;
  const T* a;  // [rows, depth]
  const T*
      b;  // panels one after the other, each [depth][NR]; to flip: B^T as a panel of A, [depth][MR]
  OutputRow<T> out;  // of the first row
};

// All k of some rows of C, with B read once, where it lies.
template <class S>
struct StreamBlock {
  using T = Accumulator<S>;
  Index rows, columns, depth;  // columns: a multiple of `lanes`
  const T* a;                  // panels of MR rows, each [depth][MR]
  Index a_stride;
  const S* b;  // [depth, b_step]
  Index b_step;
  T* sum;  // [rows, sum_step] receives A . B, or has it added to the end of its chains
  Index sum_step;
  bool carry;  // `sum` holds what the chains go on from
};

// Items behind a packed panel that packing may overwrite: fewer than the lanes
// of the widest vector.
inline constexpr Index kPanelSlack = 16;

template <class S>
struct IsaFunctions {
  using T = Accumulator<S>;
  int rows;     // MR
  int columns;  // NR
  int lanes;    // of a vector; NR is a multiple

  // panel[k][r] = source[r][first + k] for r < count, 0 for count <= r < width.
  // May write up to kPanelSlack items past the panel.
  void (*pack_transposed)(const S* const* source, int count, int width, Index first, Index depth,
                          T* panel);
  // Columns [first, first + count) of `depth` rows as panels of `width`, each
  // [depth][width], `stride` items apart: what is left of the last panel is 0.
  // `readable`: items from source[k] + first on that belong to the row, at
  // least `count`. May write up to kPanelSlack items past every panel.
  void (*pack_straight)(const S* const* source, Index count, int width, Index first, Index readable,
                        Index depth, T* panels, Index stride);
  void (*multiply)(const Block<S>& block);
  // These two where S is its own accumulator; else nullptr.
  void (*multiply_in_place)(const InPlaceBlock<T>& block);
  // The same with the lanes along the rows, for B of no more than MR columns.
  void (*multiply_flipped)(const InPlaceBlock<T>& block);
  void (*stream)(const StreamBlock<S>& block);
  // The epilogue alone: y = f(z + bias) for columns [first, first + count) of one row.
  void (*finish_row)(const OutputRow<S>& out, Index first, const T* z, Index count);
  // dz = dy * f'(saved)
  void (*differentiate)(Activation activation, const S* dy, const S* saved, Index count, T* dz);
  // sum[c] = the sum of source[r][first + c] over r, in order, from zero
  void (*sum_rows)(const T* const* source, Index rows, Index first, Index count, T* sum);
  // to[i] = from[i], rounded to nearest even.
  void (*round)(const T* from, Index count, S* to);
};

struct Isa {
  const char* name;
  bool (*supported)();  // by the processor we run on
  const IsaFunctions<float>* f32;
  const IsaFunctions<double>* f64;
  const IsaFunctions<BFloat16>* bf16;
  const IsaFunctions<Half>* f16;
};

extern const Isa kIsaGeneric;
extern const Isa kIsaAvx2;
extern const Isa kIsaAvx512;
extern const Isa kIsaNeon;
extern const Isa kIsaAvx2Wide;  // for tests

}  // namespace shared_dense
