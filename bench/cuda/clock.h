// Times work on a device by its own events, or, compiled for the host's device,
// by the host's clock: so much of the program can be tried without a GPU.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "cuda/shared_matmul.h"
#include "memory.h"

namespace bench {

using shared_dense::Index;

// Starts some work on the stream and returns; nullptr, or what went wrong.
using Work = std::function<const char*(CUstream_st*)>;

inline void require(const char* error) {
  if (error == nullptr) return;
  std::fprintf(stderr, "bench: %s\n", error);
  std::exit(1);
}

inline double host_us() {
  return std::chrono::duration<double, std::micro>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

struct Elapsed {
  double us = 0;
  bool late = false;  // the device waited for the host to start the work
};

#if defined(__CUDACC__)

// Keeps the device busy while the host starts what is timed: else the time
// between two launches is the host's.
__global__ void hold_kernel(long long cycles) {
  const long long start = clock64();
  while (clock64() - start < cycles) {
  }
}

class Clock {
 public:
  Clock() {
    cudaDeviceProp properties;
    checks::require(cudaGetDeviceProperties(&properties, 0));
    // Larger than any L2 there is, and at least twice this one.
    flush_bytes_ = std::max<std::size_t>(std::size_t{256} << 20, 2 * properties.l2CacheSize);
    flushed_ = checks::take(flush_bytes_);
    int khz = 0;
    checks::require(cudaDeviceGetAttribute(&khz, cudaDevAttrClockRate, 0));
    cycles_per_us_ = khz / 1e3;
    checks::require(cudaStreamCreate(&stream_));
    checks::require(cudaEventCreate(&begin_));
    checks::require(cudaEventCreate(&end_));
  }

  CUstream_st* stream() const { return stream_; }

  void wait() const { checks::require(cudaStreamSynchronize(stream_)); }

  // `launches`: about how many the work is.
  Elapsed time(const Work& work, bool cold, int launches) const {
    if (cold) {
      checks::require(cudaMemsetAsync(flushed_, 0, flush_bytes_, stream_));
    } else {
      bench::require(work(stream_));
    }
    wait();
    const double hold_us = 200 + 12.0 * launches;
    hold_kernel<<<1, 1, 0, stream_>>>(static_cast<long long>(hold_us * cycles_per_us_));
    checks::require(cudaGetLastError());
    const double started = host_us();
    checks::require(cudaEventRecord(begin_, stream_));
    bench::require(work(stream_));
    checks::require(cudaEventRecord(end_, stream_));
    const bool late = host_us() - started > hold_us;
    wait();
    float ms = 0;
    checks::require(cudaEventElapsedTime(&ms, begin_, end_));
    return {ms * 1e3, late};
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  void* flushed_ = nullptr;
  std::size_t flush_bytes_ = 0;
  double cycles_per_us_ = 0;
};

inline std::string describe_device() {
  cudaDeviceProp p;
  checks::require(cudaGetDeviceProperties(&p, 0));
  int driver = 0, runtime = 0;
  checks::require(cudaDriverGetVersion(&driver));
  checks::require(cudaRuntimeGetVersion(&runtime));
  char text[512];
  std::snprintf(text, sizeof text,
                "{\"name\": \"%s\", \"capability\": \"%d.%d\", \"multiprocessors\": %d, "
                "\"l2_bytes\": %d, \"memory_bytes\": %zu, \"driver_cuda\": \"%d.%d\", "
                "\"runtime_cuda\": \"%d.%d\"}",
                p.name, p.major, p.minor, p.multiProcessorCount, p.l2CacheSize, p.totalGlobalMem,
                driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
  return text;
}

inline const char* copy_on_device(void* to, const void* from, std::size_t bytes,
                                  CUstream_st* stream) {
  const cudaError_t error = cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

#else

class Clock {
 public:
  CUstream_st* stream() const { return nullptr; }
  void wait() const {}
  Elapsed time(const Work& work, bool, int) const {
    const double started = host_us();
    bench::require(work(nullptr));
    return {host_us() - started, false};
  }
};

inline std::string describe_device() { return "{\"name\": \"the host, no GPU\"}"; }

inline const char* copy_on_device(void* to, const void* from, std::size_t bytes, CUstream_st*) {
  std::memcpy(to, from, bytes);
  return nullptr;
}

#endif

}  // namespace bench
