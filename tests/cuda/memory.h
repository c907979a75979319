// Device memory for the checks: a device's own, or, where csrc/cuda is compiled
// for tests/cuda/host_shim.h, the host's.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/shared_matmul.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include "host_device.h"
#endif

namespace checks {

#if defined(__CUDACC__)
inline void require(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(error));
  std::exit(1);
}
inline void* take(std::size_t bytes) {
  void* p = nullptr;
  require(cudaMalloc(&p, bytes));
  return p;
}
inline void give(void* p) { require(cudaFree(p)); }
inline void copy_in(void* to, const void* from, std::size_t bytes) {
  require(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
}
inline void copy_out(void* to, const void* from, std::size_t bytes) {
  require(cudaDeviceSynchronize());
  require(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
}
#else
inline void* take(std::size_t bytes) { return std::aligned_alloc(256, (bytes + 255) / 256 * 256); }
inline void give(void* p) { std::free(p); }
inline void copy_in(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
inline void copy_out(void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}
// The host's device is of compute capability 9.0, with so many multiprocessors;
// 0: an older one.
inline void be_sm90(int multiprocessors) {
  host_device::Device::get().multiprocessors = multiprocessors;
}
#endif

// Items on the device, `shift` of them behind an aligned address, between
// margins that must not change. All bits start as ones: NaN in every format.
template <class S>
class Buffer {
 public:
  explicit Buffer(std::size_t count, std::size_t shift = 0) : count_(count), shift_(shift) {
    const std::vector<unsigned char> ones(bytes(), 0xFF);
    memory_ = static_cast<unsigned char*>(take(bytes()));
    copy_in(memory_, ones.data(), bytes());
  }
  Buffer(const std::vector<S>& values, std::size_t shift) : Buffer(values.size(), shift) {
    if (!values.empty()) copy_in(data(), values.data(), values.size() * sizeof(S));
  }
  Buffer(const Buffer&) = delete;
  Buffer(Buffer&& other) noexcept
      : count_(other.count_), shift_(other.shift_), memory_(other.memory_) {
    other.memory_ = nullptr;
  }
  ~Buffer() {
    if (memory_ != nullptr) give(memory_);
  }

  S* data() { return reinterpret_cast<S*>(memory_ + kMargin) + shift_; }

  // False: something outside was written.
  bool read(std::vector<S>* values) {
    std::vector<unsigned char> all(bytes());
    copy_out(all.data(), memory_, bytes());
    const std::size_t first = kMargin + shift_ * sizeof(S), size = count_ * sizeof(S);
    values->resize(count_);
    if (size > 0) std::memcpy(values->data(), all.data() + first, size);
    for (std::size_t i = 0; i < all.size(); ++i) {
      if ((i < first || i >= first + size) && all[i] != 0xFF) return false;
    }
    return true;
  }

 private:
  static constexpr std::size_t kMargin = 256;
  std::size_t bytes() const { return 2 * kMargin + (count_ + shift_) * sizeof(S); }

  std::size_t count_, shift_;
  unsigned char* memory_ = nullptr;
};

// Full of ones, too: what is read unwritten shows.
class DeviceScratch : public shared_dense::Scratch {
 public:
  void* allocate(std::size_t bytes) override {
    blocks_.emplace_back(bytes);
    return blocks_.back().data();
  }

 private:
  std::vector<Buffer<unsigned char>> blocks_;
};

}  // namespace checks
