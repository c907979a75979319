// The segments of a call as its kernels see them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "core/segments.h"
#include "core/shared_matmul.h"
#include "cuda/ptx.h"

namespace shared_dense::cuda {

// A few entries travel in the kernel's parameters, which hold 4 KB on every
// device; more are written to device memory before it.
constexpr int kFew = 64;

// The first of `count` entries that ends behind `at`; end_of(i) is where i ends.
template <class EndOf>
__device__ int first_behind(Index at, int count, const EndOf& end_of) {
  int low = 0, high = count - 1;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (end_of(middle) > at) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

template <class Entry>
struct Table {
  int count = 0;
  const Entry* more = nullptr;
  Entry few[kFew];

  __device__ Entry operator[](int i) const { return more == nullptr ? few[i] : more[i]; }
  __device__ Index end(int i) const { return more == nullptr ? few[i].end : more[i].end; }
  __device__ Index start(int i) const { return i == 0 ? 0 : end(i - 1); }

  // The first entry that ends behind `at`.
  __device__ int find(Index at) const {
    return first_behind(at, count, [this](int i) { return end(i); });
  }
};

// Writes `bytes` (a multiple of 8) to device memory, by kernels that bring them
// in their parameters: the host's copy may go as soon as this returns, and a
// captured graph holds one of its own. No copy of pageable memory does both.
const char* upload_words(void* to, const void* from, std::size_t bytes, CUstream_st* stream);

constexpr const char* kNoMemory = "no scratch memory on the device";

template <class Entry>
const char* to_device(const std::vector<Entry>& entries, Scratch* scratch, CUstream_st* stream,
                      const Entry** device) {
  static_assert(sizeof(Entry) % 8 == 0, "whole words");
  const std::size_t bytes = entries.size() * sizeof(Entry);
  void* const memory = scratch->allocate(std::max<std::size_t>(1, bytes));
  if (memory == nullptr) return kNoMemory;
  *device = static_cast<const Entry*>(memory);
  return upload_words(memory, entries.data(), bytes, stream);
}

template <class Entry>
const char* fill(Table<Entry>* table, const std::vector<Entry>& entries, Scratch* scratch,
                 CUstream_st* stream) {
  table->count = static_cast<int>(entries.size());
  if (entries.size() > kFew) return to_device(entries, scratch, stream, &table->more);
  std::copy(entries.begin(), entries.end(), table->few);
  return nullptr;
}

inline bool aligned(const void* p, std::size_t to) {
  return reinterpret_cast<std::uintptr_t>(p) % to == 0;
}

}  // namespace shared_dense::cuda
