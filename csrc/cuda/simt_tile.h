// A block's tile of a product in float or double, by multiply-adds.
#pragma once

#include "cuda/ptx.h"

namespace shared_dense::cuda {

// As MmaTile; kThreadRows x kThreadColumns is a thread's part.
template <class T, int kRows_, int kColumns_, int kDepth_, int kThreadRows, int kThreadColumns,
          int kStages_, bool kAByDepth_, bool kBByDepth_>
class SimtTile {
  static constexpr int kVector = 16 / sizeof(T);
  // Items of a line and the chunk that keeps the lines of neighbours apart in
  // the banks.
  template <int kLength>
  static constexpr int kPitch = kLength + kVector;

 public:
  using Storage = T;
  using Sum = T;
  static constexpr int kRows = kRows_, kColumns = kColumns_, kDepth = kDepth_, kStages = kStages_;
  static constexpr bool kAByDepth = kAByDepth_, kBByDepth = kBByDepth_;
  static constexpr int kThreads = kRows / kThreadRows * (kColumns / kThreadColumns);
  static constexpr int kABytes =
      (kAByDepth ? kRows * kPitch<kDepth> : kDepth * kPitch<kRows>)*sizeof(T);
  static constexpr int kBBytes =
      (kBByDepth ? kColumns * kPitch<kDepth> : kDepth * kPitch<kColumns>)*sizeof(T);

  template <int kLength>
  __device__ static int place(int line, int chunk) {
    return (line * kPitch<kLength> + chunk * kVector) * sizeof(T);
  }

  __device__ SimtTile() {
    across_ = threadIdx.x % kAcross;
    down_ = threadIdx.x / kAcross;
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
      for (int j = 0; j < kThreadColumns; ++j) sum_[i][j] = 0;
    }
  }

  __device__ void multiply(const unsigned char* a, const unsigned char* b) {
#pragma unroll
    for (int k = 0; k < kDepth; k += kVector) {
      T left[kThreadRows][kVector], right[kThreadColumns][kVector];
      read<kAByDepth, kDown, kRows>(left, a, down_, k);
      read<kBByDepth, kAcross, kColumns>(right, b, across_, k);
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
#pragma unroll
        for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
          for (int j = 0; j < kThreadColumns; ++j) {
            sum_[i][j] = fma(left[i][v], right[j][v], sum_[i][j]);
          }
        }
      }
    }
  }

  template <class Put>
  __device__ void visit(const Put& put) const {
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
      for (int j = 0; j < kThreadColumns; ++j) {
        put(index<kAByDepth, kDown, kThreadRows>(down_, i),
            index<kBByDepth, kAcross, kThreadColumns>(across_, j), sum_[i][j]);
      }
    }
  }

 private:
  static constexpr int kAcross = kColumns / kThreadColumns, kDown = kRows / kThreadRows;

  // Which row (or column) is a thread's i-th: neighbours' are neighbours, in
  // vectors where that is how shared memory holds them.
  template <bool kByDepth, int kThreadsApart, int kCount>
  __device__ static int index(int thread, int i) {
    if constexpr (!kByDepth && kCount % kVector == 0) {
      return (thread + i / kVector * kThreadsApart) * kVector + i % kVector;
    } else {
      return thread + i * kThreadsApart;
    }
  }

  template <bool kByDepth, int kThreadsApart, int kExtent, int kCount>
  __device__ static void read(T (&to)[kCount][kVector], const unsigned char* from, int thread,
                              int k) {
    const T* const items = reinterpret_cast<const T*>(from);
    if constexpr (kByDepth) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const auto pack = *reinterpret_cast<const Pack<T, kVector>*>(
            items + index<kByDepth, kThreadsApart, kCount>(thread, i) * kPitch<kDepth> + k);
#pragma unroll
        for (int v = 0; v < kVector; ++v) to[i][v] = pack.item[v];
      }
    } else if constexpr (kCount % kVector == 0) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
#pragma unroll
        for (int i = 0; i < kCount; i += kVector) {
          const auto pack = *reinterpret_cast<const Pack<T, kVector>*>(
              items + (k + v) * kPitch<kExtent> +
              index<kByDepth, kThreadsApart, kCount>(thread, i));
#pragma unroll
          for (int e = 0; e < kVector; ++e) to[i + e][v] = pack.item[e];
        }
      }
    } else {
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
          to[i][v] =
              items[(k + v) * kPitch<kExtent> + index<kByDepth, kThreadsApart, kCount>(thread, i)];
        }
      }
    }
  }

  int across_, down_;
  T sum_[kThreadRows][kThreadColumns];
};

}  // namespace shared_dense::cuda
