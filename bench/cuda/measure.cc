// Checks and times csrc/cuda, and cuBLASLt beside it, on this machine's GPU.
//
//   measure ROUNDS CASE...      CASE: DTYPE,PASS,IN,UNITS,ROWS[,ROWS...]
//
// DTYPE: float32, tf32 (float32 where TensorFloat-32 is allowed), float64,
// bfloat16, float16; PASS: forward or backward. Writes a line of JSON for the
// device, one for its limits and one for each case; 1 when a result is wrong,
// and then nothing of that case is timed.
#include <cstdio>
#include <cstring>
#include <map>
#include <sstream>

#include "contestants.h"

namespace bench {
namespace {

std::string list(const std::vector<double>& values) {
  std::string text = "[";
  char number[32];
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::snprintf(number, sizeof number, "%s%.4g", i == 0 ? "" : ", ", values[i]);
    text += number;
  }
  return text + "]";
}

// JSON knows no infinity.
std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", std::isfinite(value) ? value : 1e300);
  return text;
}

Case parse(const std::string& text, std::string* dtype) {
  Case c{text, {}, 0, 0, false, false};
  std::istringstream from(text);
  std::string part;
  std::vector<std::string> parts;
  while (std::getline(from, part, ',')) parts.push_back(part);
  if (parts.size() < 5 || (parts[1] != "forward" && parts[1] != "backward")) {
    std::fprintf(stderr, "bench: '%s' is no case\n", text.c_str());
    std::exit(2);
  }
  *dtype = parts[0];
  c.tf32 = *dtype == "tf32";
  c.backward = parts[1] == "backward";
  c.in_features = std::atoll(parts[2].c_str());
  c.units = std::atoll(parts[3].c_str());
  for (std::size_t i = 4; i < parts.size(); ++i) c.rows.push_back(std::atoll(parts[i].c_str()));
  return c;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Bytes read and written a second by a copy much larger than L2.
double copy_rate(const Clock& clock, int rounds) {
#if defined(__CUDACC__)
  const std::size_t bytes = std::size_t{1} << 30;
#else
  const std::size_t bytes = std::size_t{1} << 20;
#endif
  void *const from = checks::take(bytes), *const to = checks::take(bytes);
  std::vector<double> us;
  for (int i = 0; i < rounds; ++i) {
    const Work copy = [&](CUstream_st* stream) { return copy_on_device(to, from, bytes, stream); };
    us.push_back(clock.time(copy, true, 1).us);
  }
  checks::give(from);
  checks::give(to);
  return 2 * bytes / median(us) * 1e6;
}

// Operations a second of one large product.
template <class S>
double peak(const Blas& blas, const Clock& clock, bool tf32, int rounds) {
  const Index n = sizeof(S) == 8 ? 2048 : 8192;
  Buffer<S> a(some_numbers<S>(n * n, 1, 1), 0), b(some_numbers<S>(n * n, 2, 1), 0), d(n * n);
  const Work work =
      blas.prepare<S>({n, n, n, false, false, a.data(), b.data(), d.data()}, tf32, clock);
  std::vector<double> us;
  for (int i = 0; i < rounds; ++i) us.push_back(clock.time(work, false, 1).us);
  return 2.0 * n * n * n / median(us) * 1e6;
}

template <class S>
bool run(const Case& c, int rounds, const Blas& blas, const Clock& clock, Arena* arena) {
  Problem<S> problem(c);
  arena->begin_case();
  std::vector<Contestant> contestants = {ours(&problem, arena)};
  Stacked<S> stacked(&problem);
  std::string skipped;
  if (!blas.missing().empty()) {
    skipped = blas.missing();
  } else if (!stacked.whole()) {
    skipped = "rows of no whole 16 bytes";
  } else {
    // Its own copies first, so that `gemm` finds the rows stacked.
    require(stacked.before()(clock.stream()));
    for (Contestant& one : by_blas(&problem, &stacked, blas, clock)) {
      contestants.push_back(std::move(one));
    }
  }
  std::string errors;
  bool right = true;
  for (const Contestant& one : contestants) {
    if (!one.judged) continue;
    problem.poison();
    require(one.work(clock.stream()));
    clock.wait();
    const Error error = error_of(&problem);
    errors += (errors.empty() ? "" : ", ") + ("\"" + one.name + "\": {\"relative\": ") +
              number(error.relative) + ", \"of_bound\": " + number(error.of_bound) + "}";
    if (one.name == "ours") right = error.of_bound <= 1;
  }
  std::printf("{\"case\": \"%s\", \"right\": %s, \"error\": {%s}, \"scratch_bytes\": %zu",
              c.text.c_str(), right ? "true" : "false", errors.c_str(), arena->most());
  if (right) {
    std::map<std::string, std::vector<double>> us;
    int late = 0;
    for (const bool cold : {true, false}) {
      for (int round = 0; round < rounds; ++round) {
        for (std::size_t turn = 0; turn < contestants.size(); ++turn) {
          const Contestant& one = contestants[(turn + round) % contestants.size()];
          const Elapsed elapsed = clock.time(one.work, cold, one.launches);
          late += elapsed.late;
          us[one.name + (cold ? " cold" : " warm")].push_back(elapsed.us);
        }
      }
    }
    std::string times;
    for (const auto& [name, values] : us) {
      times += (times.empty() ? "" : ", ") + ("\"" + name + "\": ") + list(values);
    }
    std::printf(", \"us\": {%s}, \"late\": %d", times.c_str(), late);
  }
  if (!skipped.empty()) std::printf(", \"skipped\": \"cuBLASLt: %s\"", skipped.c_str());
  std::printf("}\n");
  std::fflush(stdout);
  return right;
}

int main(int count, char** arguments) {
  const int rounds = count > 2 ? std::atoi(arguments[1]) : 0;
  if (rounds < 1) {
    std::fprintf(stderr, "usage: measure ROUNDS CASE...\n");
    return 2;
  }
  const Clock clock;
  const Blas blas;
  Arena arena;
  std::printf("{\"device\": %s}\n", describe_device().c_str());
  std::string peaks;
  if (blas.missing().empty()) {
    char text[300];
    std::snprintf(text, sizeof text,
                  "\"bfloat16\": %.4g, \"float16\": %.4g, \"tf32\": %.4g, \"float32\": %.4g, "
                  "\"float64\": %.4g",
                  peak<shared_dense::BFloat16>(blas, clock, false, rounds),
                  peak<shared_dense::Half>(blas, clock, false, rounds),
                  peak<float>(blas, clock, true, rounds), peak<float>(blas, clock, false, rounds),
                  peak<double>(blas, clock, false, rounds));
    peaks = text;
  }
  std::printf("{\"copy_bytes_per_s\": %.4g, \"gemm_flops\": {%s}}\n", copy_rate(clock, rounds),
              peaks.c_str());
  bool right = true;
  for (int i = 2; i < count; ++i) {
    std::string dtype;
    const Case c = parse(arguments[i], &dtype);
    if (dtype == "float32" || dtype == "tf32") {
      right &= run<float>(c, rounds, blas, clock, &arena);
    } else if (dtype == "float64") {
      right &= run<double>(c, rounds, blas, clock, &arena);
    } else if (dtype == "bfloat16") {
      right &= run<shared_dense::BFloat16>(c, rounds, blas, clock, &arena);
    } else if (dtype == "float16") {
      right &= run<shared_dense::Half>(c, rounds, blas, clock, &arena);
    } else {
      std::fprintf(stderr, "bench: no dtype '%s'\n", dtype.c_str());
      return 2;
    }
  }
  return right ? 0 : 1;
}

}  // namespace
}  // namespace bench

int main(int count, char** arguments) { return bench::main(count, arguments); }
