#include <algorithm>
#include <cstring>

#include "cuda/activation.h"
#include "cuda/elementwise.h"

namespace shared_dense::cuda {
namespace {

__global__ void __launch_bounds__(kElementThreads)
    upload_kernel(const __grid_constant__ Words words) {
  for (int i = threadIdx.x; i < words.count; i += kElementThreads) words.to[i] = words.word[i];
}

template <class S>
__global__ void __launch_bounds__(kElementThreads)
    dz_kernel(const __grid_constant__ DzProblem<S> problem) {
  using T = Accumulator<S>;
  const int at = problem.segments.find(blockIdx.x);
  const DzSegment<S> segment = problem.segments[at];
  const Index first = (blockIdx.x - problem.segments.start(at)) * kElementsPerBlock + threadIdx.x;
#pragma unroll
  for (int e = 0; e < kElementsPerBlock; e += kElementThreads) {
    const Index i = first + e;
    if (i >= segment.count) return;
    const T dz = chain<T>(segment.activation, widen(segment.dy[i]), widen(segment.saved[i]));
    narrow(dz, segment.dz + i);
  }
}

// Sums of one chunk of rows; a thread has a column.
template <class S>
__global__ void __launch_bounds__(kElementThreads)
    bias_chunks_kernel(const __grid_constant__ BiasProblem<S> problem) {
  const Index column_blocks = ceil_div(problem.units, kElementThreads);
  const Index column = blockIdx.x % column_blocks * kElementThreads + threadIdx.x;
  if (column >= problem.units) return;
  const Index chunk = blockIdx.x / column_blocks;
  const int at =
      first_behind(chunk, problem.segment_count, [&](int i) { return problem.segments[i].end; });
  const BiasSegment<S> from = problem.segments[at];
  const Index first = (chunk - (at == 0 ? 0 : problem.segments[at - 1].end)) * kRowChunk;
  const Index end = from.rows < first + kRowChunk ? from.rows : first + kRowChunk;
  Accumulator<S> sum = 0;
  for (Index row = first; row < end; ++row) sum += widen(from.dz[row * problem.units + column]);
  problem.partial_sums[chunk * problem.units + column] = sum;
}

// Each bias gradient: the chunks of every input in order, then the inputs.
template <class S>
__global__ void __launch_bounds__(kElementThreads)
    bias_kernel(const __grid_constant__ BiasProblem<S> problem) {
  const Index column_blocks = ceil_div(problem.units, kElementThreads);
  const Index column = blockIdx.x % column_blocks * kElementThreads + threadIdx.x;
  if (column >= problem.units) return;
  const int at = blockIdx.x / column_blocks;
  Index segment = at == 0 ? 0 : problem.sums[at - 1].segments;
  Index chunk = segment == 0 ? 0 : problem.segments[segment - 1].end;
  Accumulator<S> sum = 0;
  for (; segment < problem.sums[at].segments; ++segment) {
    Accumulator<S> own = 0;
    for (; chunk < problem.segments[segment].end; ++chunk) {
      own += problem.partial_sums[chunk * problem.units + column];
    }
    sum += own;
  }
  narrow(sum, problem.sums[at].sum + column);
}

template <class S>
__global__ void __launch_bounds__(kElementThreads)
    partial_sums_kernel(const __grid_constant__ PartialSumsProblem<S> problem) {
  const Index i = Index{blockIdx.x} * kElementThreads + threadIdx.x;
  if (i >= problem.count) return;
  Accumulator<S> sum = 0;
  for (int split = 0; split < problem.splits; ++split) {
    sum += problem.partial_sums[split * problem.count + i];
  }
  narrow(sum, problem.sum + i);
}

}  // namespace

const char* upload_words(void* to, const void* from, std::size_t bytes, CUstream_st* stream) {
  constexpr std::size_t kMost = Words::kMost * sizeof(unsigned long long);
  for (std::size_t at = 0; at < bytes; at += kMost) {
    const std::size_t some = std::min(kMost, bytes - at);
    Words words;
    words.to = reinterpret_cast<unsigned long long*>(static_cast<unsigned char*>(to) + at);
    words.count = static_cast<int>(some / sizeof(unsigned long long));
    std::memcpy(words.word, static_cast<const unsigned char*>(from) + at, some);
    const char* const error = launch(&upload_kernel, 1, kElementThreads, 0, stream, words);
    if (error != nullptr) return error;
  }
  return nullptr;
}

template <class S>
const char* launch_dz(const DzProblem<S>& problem, Index blocks, CUstream_st* stream) {
  return launch(&dz_kernel<S>, blocks, kElementThreads, 0, stream, problem);
}

template <class S>
const char* launch_bias(const BiasProblem<S>& problem, Index chunks, CUstream_st* stream) {
  const Index column_blocks = ceil_div(problem.units, kElementThreads);
  if (chunks > 0) {
    const char* const error =
        launch(&bias_chunks_kernel<S>, chunks * column_blocks, kElementThreads, 0, stream, problem);
    if (error != nullptr) return error;
  }
  return launch(&bias_kernel<S>, problem.count * column_blocks, kElementThreads, 0, stream,
                problem);
}

template <class S>
const char* launch_partial_sums(const PartialSumsProblem<S>& problem, CUstream_st* stream) {
  return launch(&partial_sums_kernel<S>, ceil_div(problem.count, kElementThreads), kElementThreads,
                0, stream, problem);
}

#define SHARED_DENSE_INSTANTIATE(S)                                                    \
  template const char* launch_dz(const DzProblem<S>&, Index blocks, CUstream_st*);     \
  template const char* launch_bias(const BiasProblem<S>&, Index chunks, CUstream_st*); \
  template const char* launch_partial_sums(const PartialSumsProblem<S>&, CUstream_st*);
SHARED_DENSE_INSTANTIATE(float)
SHARED_DENSE_INSTANTIATE(double)
SHARED_DENSE_INSTANTIATE(BFloat16)
SHARED_DENSE_INSTANTIATE(Half)
#undef SHARED_DENSE_INSTANTIATE

}  // namespace shared_dense::cuda
