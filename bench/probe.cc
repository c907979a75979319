// Measures what this machine can do at best: multiply-adds per second, and
// bytes per second in and out of every level of memory. The benchmark compiles
// it (bench/machine.py) and takes the limits of its shapes from it.
//
//   probe THREADS REPEATS BYTES...
//
// BYTES is what one thread touches of a level. A figure is the best of REPEATS
// runs of 5 ms or more, in which all threads work at once. To stdout goes JSON:
// "fma" in floating-point operations per second (a multiply-add is two), "levels"
// in bytes per second, in order; a copy counts what it reads and what it writes.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace {

// The widest vectors, and chains of multiply-adds enough to hide the latency of
// one (4 or 5 cycles, 2 to 4 at once), but not more than registers hold.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kChains = 24;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32, kChains = 12;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16, kChains = 24;
#else
constexpr int kVectorBytes = 16, kChains = 12;
#endif
constexpr int kUnroll = 8;                      // vectors per turn of a loop over memory
constexpr int kChunk = kVectorBytes * kUnroll;  // bytes
constexpr double kLeastSeconds = 0.005;         // of one run: clocks and starting threads vanish

template <class T>
struct VectorOf {
  typedef T Type __attribute__((vector_size(kVectorBytes)));
};
using Bits = VectorOf<std::uint64_t>::Type;

// The compiler must take these for a value it does not know, and for a use.
template <class V>
void hide(V& value) {
  asm volatile("" : "+m"(value));
}
template <class V>
void use(const V& value) {
  asm volatile("" : : "m"(value) : "memory");
}

using Clock = std::chrono::steady_clock;

// Seconds from the first start to the last end; the threads start together.
double run_together(int threads, const std::function<void(int)>& body) {
  std::atomic<int> ready{0};
  std::vector<Clock::time_point> starts(threads), ends(threads);
  const auto work = [&](int thread) {
    ++ready;
    while (ready.load() < threads) std::this_thread::yield();
    starts[thread] = Clock::now();
    body(thread);
    ends[thread] = Clock::now();
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(work, t);
  work(0);
  for (std::thread& other : others) other.join();
  const auto first = *std::min_element(starts.begin(), starts.end());
  const auto last = *std::max_element(ends.begin(), ends.end());
  return std::chrono::duration<double>(last - first).count();
}

// body(thread, turns) does `work` units a turn; the best units per second of all threads.
double best_rate(int threads, int repeats, double work,
                 const std::function<void(int, long)>& body) {
  long turns = 1;
  const auto once = [&] { return run_together(threads, [&](int t) { body(t, turns); }); };
  double best = 0;
  for (double seconds = once(); seconds < kLeastSeconds; seconds = once()) turns *= 2;
  for (int r = 0; r < repeats; ++r) best = std::max(best, work * turns * threads / once());
  return best;
}

template <class T>
void multiply_add(long turns) {
  using V = typename VectorOf<T>::Type;
  // Chains that start equal would stay equal, and a compiler may make them one.
  V chain[kChains], factor = V{} + T(0.75), addend = V{} + T(0.5);
  for (int c = 0; c < kChains; ++c) chain[c] = V{} + T(1 + c);
  hide(factor);
  hide(addend);
  const V times = factor, plus = addend;
  for (long t = 0; t < turns; ++t) {
#pragma GCC unroll 24
    for (int c = 0; c < kChains; ++c) chain[c] = chain[c] * times + plus;
  }
  V all = chain[0];
  for (int c = 1; c < kChains; ++c) all += chain[c];
  use(all);
}

template <class T>
double multiply_add_rate(int threads, int repeats) {
  const double work = 2.0 * kChains * (kVectorBytes / static_cast<int>(sizeof(T)));
  return best_rate(threads, repeats, work, [](int, long turns) { multiply_add<T>(turns); });
}

void read(const Bits* from, long count) {
  Bits sum[kUnroll] = {};
  for (long i = 0; i < count; i += kUnroll) {
#pragma GCC unroll 8
    for (int k = 0; k < kUnroll; ++k) sum[k] ^= from[i + k];
  }
  // One use of all: a use of each would make memory of them, stored to on every turn.
  Bits all = sum[0];
  for (int k = 1; k < kUnroll; ++k) all ^= sum[k];
  use(all);
}

void write(Bits* to, long count) {
  Bits value = {};
  hide(value);
  const Bits v = value;
  for (long i = 0; i < count; i += kUnroll) {
#pragma GCC unroll 8
    for (int k = 0; k < kUnroll; ++k) to[i + k] = v;
  }
  use(*to);
}

void copy(const Bits* from, Bits* to, long count) {
  for (long i = 0; i < count; i += kUnroll) {
#pragma GCC unroll 8
    for (int k = 0; k < kUnroll; ++k) to[i + k] = from[i + k];
  }
  use(*to);
}

// Past the caches: a line need not be read before it is written.
#if defined(__SSE2__)
void write_past(Bits* to, long count) {
  const __m128i value = _mm_set1_epi8(1);
  auto* out = reinterpret_cast<__m128i*>(to);
  for (long i = 0; i < count * kVectorBytes / 16; ++i) _mm_stream_si128(out + i, value);
  _mm_sfence();
}

void copy_past(const Bits* from, Bits* to, long count) {
  const auto* in = reinterpret_cast<const __m128i*>(from);
  auto* out = reinterpret_cast<__m128i*>(to);
  for (long i = 0; i < count * kVectorBytes / 16; ++i) _mm_stream_si128(out + i, in[i]);
  _mm_sfence();
}
#else
void write_past(Bits* to, long count) { write(to, count); }
void copy_past(const Bits* from, Bits* to, long count) { copy(from, to, count); }
#endif

// On large pages where the system has them: misses of the page tables are no limit of a cache.
Bits* allocate(std::size_t bytes) {
  constexpr std::size_t kLargePage = std::size_t{2} << 20;
  bytes = (bytes + kLargePage - 1) / kLargePage * kLargePage;
  void* memory = nullptr;
  if (posix_memalign(&memory, kLargePage, bytes) != 0) {
    std::fprintf(stderr, "probe: no memory for %zu bytes\n", bytes);
    std::exit(1);
  }
#if defined(MADV_HUGEPAGE)
  (void)madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return static_cast<Bits*>(memory);
}

struct Rates {
  double read, write, copy;
};

Rates level_rates(int threads, int repeats, long bytes) {
  // Two halves, for copying from one to the other.
  const long half = std::max(bytes / 2 / kChunk, 1L) * kUnroll, count = 2 * half;
  const double work = static_cast<double>(count) * kVectorBytes;
  std::vector<Bits*> memory(threads);
  for (Bits*& m : memory) m = allocate(static_cast<std::size_t>(count) * kVectorBytes);
  const auto rate = [&](const std::function<void(Bits*)>& pass) {
    return best_rate(threads, repeats, work, [&](int thread, long turns) {
      for (long t = 0; t < turns; ++t) pass(memory[thread]);
    });
  };
  // Written first, by the thread that will use them: untouched pages would all be one page of
  // zeros.
  const double written = rate([&](Bits* m) { write(m, count); });
  const double past = rate([&](Bits* m) { write_past(m, count); });
  const double copied = rate([&](Bits* m) { copy(m, m + half, half); });
  const double copied_past = rate([&](Bits* m) { copy_past(m, m + half, half); });
  const double was_read = rate([&](Bits* m) { read(m, count); });
  for (Bits* m : memory) std::free(m);
  return {was_read, std::max(written, past), std::max(copied, copied_past)};
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<long> given;
  for (int i = 1; i < argc; ++i) given.push_back(std::atol(argv[i]));
  if (given.size() < 2 || *std::min_element(given.begin(), given.end()) < 1) {
    std::fprintf(stderr, "usage: probe THREADS REPEATS BYTES...\n");
    return 2;
  }
  const int threads = static_cast<int>(given[0]), repeats = static_cast<int>(given[1]);
  std::printf("{\"threads\": %d, \"fma\": {\"float32\": %.6g, \"float64\": %.6g},\n \"levels\": [",
              threads, multiply_add_rate<float>(threads, repeats),
              multiply_add_rate<double>(threads, repeats));
  for (std::size_t i = 2; i < given.size(); ++i) {
    const Rates r = level_rates(threads, repeats, given[i]);
    std::printf("%s\n  {\"read\": %.6g, \"write\": %.6g, \"copy\": %.6g}", i > 2 ? "," : "", r.read,
                r.write, r.copy);
  }
  std::printf("]}\n");
  return 0;
}
