// cuBLASLt as a yardstick: opened when the program runs, so that it needs none.
// Compiled in where its headers are.
#pragma once

#include <dlfcn.h>

#include <cstdlib>
#include <string>
#include <type_traits>
#include <utility>

#include "clock.h"

#if defined(__CUDACC__) && __has_include(<cublasLt.h>)
#define SHARED_DENSE_BENCH_BLAS 1
#include <cublasLt.h>
#endif

namespace bench {

// D = A . B + beta D, rows contiguous; `a_transposed`: A is stored [k, m].
struct Product {
  Index m, n, k;
  bool a_transposed, b_transposed;
  const void* a;
  const void* b;
  void* d;
  float beta = 0;
  const void* bias = nullptr;  // [n]: added, and relu of that
};

#if SHARED_DENSE_BENCH_BLAS

class Blas {
 public:
  // SHARED_DENSE_CUBLASLT, or where the dynamic linker finds it.
  Blas() {
    const char* const named = std::getenv("SHARED_DENSE_CUBLASLT");
    const std::string name =
        named != nullptr ? named : "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
    void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      missing_ = dlerror();
      return;
    }
#define SHARED_DENSE_BENCH_FIND(f)                             \
  f##_ = reinterpret_cast<decltype(f##_)>(dlsym(library, #f)); \
  if (f##_ == nullptr) missing_ = name + " has no " #f;
    SHARED_DENSE_BENCH_FIND(cublasLtCreate)
    SHARED_DENSE_BENCH_FIND(cublasLtMatmul)
    SHARED_DENSE_BENCH_FIND(cublasLtMatmulAlgoGetHeuristic)
    SHARED_DENSE_BENCH_FIND(cublasLtMatmulDescCreate)
    SHARED_DENSE_BENCH_FIND(cublasLtMatmulDescSetAttribute)
    SHARED_DENSE_BENCH_FIND(cublasLtMatrixLayoutCreate)
    SHARED_DENSE_BENCH_FIND(cublasLtMatmulPreferenceCreate)
    SHARED_DENSE_BENCH_FIND(cublasLtMatmulPreferenceSetAttribute)
#undef SHARED_DENSE_BENCH_FIND
    if (!missing_.empty()) return;
    if (cublasLtCreate_(&handle_) != CUBLAS_STATUS_SUCCESS) missing_ = "cublasLtCreate failed";
    workspace_ = checks::take(kWorkspace);
  }

  // Why there is none; "" where there is.
  const std::string& missing() const { return missing_; }

  // A product ready to run, by the fastest of the algorithms that cuBLASLt
  // proposes. Descriptors live as long as the program.
  template <class S>
  Work prepare(const Product& p, bool tf32, const Clock& clock) const {
    const cudaDataType_t type = sizeof(S) == 8                              ? CUDA_R_64F
                                : sizeof(S) == 4                            ? CUDA_R_32F
                                : std::is_same_v<S, shared_dense::BFloat16> ? CUDA_R_16BF
                                                                            : CUDA_R_16F;
    const cudaDataType_t scale = sizeof(S) == 8 ? CUDA_R_64F : CUDA_R_32F;
    const cublasComputeType_t compute = sizeof(S) == 8 ? CUBLAS_COMPUTE_64F
                                        : tf32         ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                       : CUBLAS_COMPUTE_32F;
    // Its matrices stand in columns: D^T = B^T . A^T.
    cublasLtMatmulDesc_t how;
    check(cublasLtMatmulDescCreate_(&how, compute, scale));
    const auto set = [&](cublasLtMatmulDescAttributes_t name, const auto& value) {
      check(cublasLtMatmulDescSetAttribute_(how, name, &value, sizeof value));
    };
    const auto turned = [](bool yes) { return yes ? CUBLAS_OP_T : CUBLAS_OP_N; };
    set(CUBLASLT_MATMUL_DESC_TRANSA, turned(p.b_transposed));
    set(CUBLASLT_MATMUL_DESC_TRANSB, turned(p.a_transposed));
    if (p.bias != nullptr) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_RELU_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
    }
    const auto layout = [&](Index rows, Index columns, bool transposed) {
      if (transposed) std::swap(rows, columns);
      cublasLtMatrixLayout_t made;
      check(cublasLtMatrixLayoutCreate_(&made, type, rows, columns, rows));
      return made;
    };
    const cublasLtMatrixLayout_t b = layout(p.n, p.k, p.b_transposed);
    const cublasLtMatrixLayout_t a = layout(p.k, p.m, p.a_transposed);
    const cublasLtMatrixLayout_t d = layout(p.n, p.m, false);
    cublasLtMatmulPreference_t preference;
    check(cublasLtMatmulPreferenceCreate_(&preference));
    check(cublasLtMatmulPreferenceSetAttribute_(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace, sizeof kWorkspace));
    constexpr int kProposals = 8;
    cublasLtMatmulHeuristicResult_t proposed[kProposals];
    int count = 0;
    check(cublasLtMatmulAlgoGetHeuristic_(handle_, how, b, a, d, d, preference, kProposals,
                                          proposed, &count));
    const auto work = [=](const cublasLtMatmulAlgo_t& algorithm) -> Work {
      return [=](CUstream_st* stream) -> const char* {
        const double one = 1, beta = p.beta;
        const float one_float = 1;
        const bool wide = scale == CUDA_R_64F;
        const cublasStatus_t status =
            cublasLtMatmul_(handle_, how, wide ? static_cast<const void*>(&one) : &one_float, p.b,
                            b, p.a, a, wide ? static_cast<const void*>(&beta) : &p.beta, p.d, d,
                            p.d, d, &algorithm, workspace_, kWorkspace, stream);
        return status == CUBLAS_STATUS_SUCCESS ? nullptr : "cublasLtMatmul failed";
      };
    };
    Work best;
    double least = 0;
    for (int i = 0; i < count; ++i) {
      if (proposed[i].state != CUBLAS_STATUS_SUCCESS) continue;
      const Work candidate = work(proposed[i].algo);
      double us = 0;
      for (int round = 0; round < 3; ++round) {
        const double now = clock.time(candidate, false, 1).us;
        us = round == 0 ? now : std::min(us, now);
      }
      if (!best || us < least) {
        best = candidate;
        least = us;
      }
    }
    if (!best) bench::require("cuBLASLt proposes no algorithm");
    return best;
  }

 private:
  // What NVIDIA advises for compute capability 9.0.
  static constexpr std::size_t kWorkspace = 32 << 20;

  static void check(cublasStatus_t status) {
    if (status != CUBLAS_STATUS_SUCCESS) bench::require("a call of cuBLASLt failed");
  }

  std::string missing_;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  decltype(&::cublasLtCreate) cublasLtCreate_ = nullptr;
  decltype(&::cublasLtMatmul) cublasLtMatmul_ = nullptr;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) cublasLtMatmulAlgoGetHeuristic_ = nullptr;
  decltype(&::cublasLtMatmulDescCreate) cublasLtMatmulDescCreate_ = nullptr;
  decltype(&::cublasLtMatmulDescSetAttribute) cublasLtMatmulDescSetAttribute_ = nullptr;
  decltype(&::cublasLtMatrixLayoutCreate) cublasLtMatrixLayoutCreate_ = nullptr;
  decltype(&::cublasLtMatmulPreferenceCreate) cublasLtMatmulPreferenceCreate_ = nullptr;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) cublasLtMatmulPreferenceSetAttribute_ = nullptr;
};

#else

// A host compiler or no headers: every column of cuBLASLt is left out by name.
class Blas {
 public:
  const std::string& missing() const { return missing_; }
  template <class S>
  Work prepare(const Product&, bool, const Clock&) const {
    return {};
  }

 private:
  std::string missing_ = "built without cublasLt.h (pip install nvidia-cublas)";
};

#endif

}  // namespace bench
