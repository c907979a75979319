// Who takes part in a case: the library, and the same work by cuBLASLt.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "blas.h"
#include "clock.h"
#include "problem.h"

namespace bench {

struct Contestant {
  std::string name;
  Work work;
  int launches;        // about
  bool judged = true;  // its results are those of the case
};

#if defined(__CUDACC__)

struct Part {
  const void* from;
  void* to;
  long long vectors;  // of 16 bytes
};

// Copies of N parts in one launch, as a framework's concat and split do.
__global__ void copy_parts_kernel(const Part* parts) {
  const Part part = parts[blockIdx.y];
  const auto* const from = static_cast<const uint4*>(part.from);
  auto* const to = static_cast<uint4*>(part.to);
  const long long step = static_cast<long long>(gridDim.x) * blockDim.x;
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < part.vectors; i += step) {
    to[i] = from[i];
  }
}

class Copies {
 public:
  explicit Copies(const std::vector<Part>& parts) : count_(static_cast<unsigned>(parts.size())) {
    long long most = 0;
    for (const Part& part : parts) most = std::max(most, part.vectors);
    blocks_ = static_cast<unsigned>(std::max(1LL, std::min(1024LL, (most + 255) / 256)));
    const std::size_t bytes = parts.size() * sizeof(Part);
    table_ = static_cast<Part*>(checks::take(bytes));
    checks::copy_in(table_, parts.data(), bytes);
  }
  const char* run(CUstream_st* stream) const {
    copy_parts_kernel<<<dim3(blocks_, count_), 256, 0, stream>>>(table_);
    const cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
  }

 private:
  unsigned count_, blocks_ = 1;
  Part* table_ = nullptr;
};

#else

struct Part {
  const void* from;
  void* to;
  long long vectors;
};

class Copies {
 public:
  explicit Copies(const std::vector<Part>& parts) : parts_(parts) {}
  const char* run(CUstream_st*) const {
    for (const Part& part : parts_) std::memcpy(part.to, part.from, part.vectors * 16);
    return nullptr;
  }

 private:
  std::vector<Part> parts_;
};

#endif

inline const char* run_all(const std::vector<Work>& works, CUstream_st* stream) {
  for (const Work& work : works) {
    if (const char* error = work(stream)) return error;
  }
  return nullptr;
}

// The library. dZ of linear outputs is dY: nothing but the products is timed
// backward.
template <class S>
Contestant ours(Problem<S>* p, Arena* arena) {
  using namespace shared_dense;
  const Case& c = p->of;
  const Kernel<S> kernel{p->w_device.data(), c.in_features, c.units, false};
  std::vector<ForwardSegment<S>> forwards;
  std::vector<BackwardSegment<S>> backwards;
  for (std::size_t i = 0; i < c.rows.size(); ++i) {
    S* const x = p->x_device[i].data();
    if (c.backward) {
      backwards.push_back({c.rows[i], x, p->dy_device[i].data(), nullptr, p->dx_device[i].data(),
                           nullptr, Activation::kLinear});
    } else {
      forwards.push_back(
          {c.rows[i], x, p->y_device[i].data(), nullptr, p->bias_device.data(), Activation::kRelu});
    }
  }
  S* const dw = p->dw_device.data();
  const bool tf32 = c.tf32, backward = c.backward;
  const Work work = [=](CUstream_st* stream) -> const char* {
    arena->begin_call();
    const shared_dense::cuda::Context context{stream, arena, tf32};
    return backward ? shared_dense::cuda::backward(context, kernel, backwards, dw)
                    : shared_dense::cuda::forward(context, kernel, forwards);
  };
  return {"ours", work, 4};
}

// The rows of all inputs, one behind the other, and what a framework does
// around one product over them.
template <class S>
class Stacked {
 public:
  explicit Stacked(Problem<S>* p)
      : x_(p->rows() * p->of.in_features),
        y_(p->rows() * p->of.units),
        dx_(p->of.backward ? p->rows() * p->of.in_features : 0),
        whole_(p->of.in_features * sizeof(S) % 16 == 0 && p->of.units * sizeof(S) % 16 == 0) {
    const Case& c = p->of;
    std::vector<Part> in, out;
    Index row = 0;
    const auto vectors = [](Index rows, Index width) {
      return static_cast<long long>(rows * width * sizeof(S) / 16);
    };
    for (std::size_t i = 0; i < c.rows.size(); ++i) {
      S *const x = x_.data() + row * c.in_features, *const y = y_.data() + row * c.units;
      in.push_back({p->x_device[i].data(), x, vectors(c.rows[i], c.in_features)});
      if (c.backward) {
        in.push_back({p->dy_device[i].data(), y, vectors(c.rows[i], c.units)});
        out.push_back({dx_.data() + row * c.in_features, p->dx_device[i].data(),
                       vectors(c.rows[i], c.in_features)});
      } else {
        out.push_back({y, p->y_device[i].data(), vectors(c.rows[i], c.units)});
      }
      row += c.rows[i];
    }
    before_ = std::make_shared<Copies>(in);
    after_ = std::make_shared<Copies>(out);
  }

  bool whole() const { return whole_; }
  S* x() { return x_.data(); }
  S* y() { return y_.data(); }  // or dY
  S* dx() { return dx_.data(); }
  Work before() const {
    return [copies = before_](CUstream_st* s) { return copies->run(s); };
  }
  Work after() const {
    return [copies = after_](CUstream_st* s) { return copies->run(s); };
  }

 private:
  Buffer<S> x_, y_, dx_;
  bool whole_;
  std::shared_ptr<Copies> before_, after_;
};

// separate: N calls with bias and activation inside, or, backward, dX and dW of
//           each, dW added up inside.
// concat:   the copies, one call, the copies back.
// gemm:     that one call alone, no copies, bias or activation: the limit.
template <class S>
std::vector<Contestant> by_blas(Problem<S>* p, Stacked<S>* stacked, const Blas& blas,
                                const Clock& clock) {
  const Case& c = p->of;
  const Index k = c.in_features, u = c.units, all = p->rows();
  const int n = static_cast<int>(c.rows.size());
  S *const w = p->w_device.data(), *const dw = p->dw_device.data();
  const auto make = [&](const Product& product) {
    return blas.template prepare<S>(product, c.tf32, clock);
  };
  // Inputs of as many rows take the same algorithm: asked for once would be
  // enough, but pointers are part of what is prepared.
  std::vector<Work> separate, bare, joined;
  for (int i = 0; i < n; ++i) {
    S* const x = p->x_device[i].data();
    if (c.backward) {
      S* const dy = p->dy_device[i].data();
      separate.push_back(make({c.rows[i], k, u, false, true, dy, w, p->dx_device[i].data()}));
      separate.push_back(make({k, u, c.rows[i], true, false, x, dy, dw, i == 0 ? 0.f : 1.f}));
    } else {
      separate.push_back(make(
          {c.rows[i], u, k, false, false, x, w, p->y_device[i].data(), 0, p->bias_device.data()}));
    }
  }
  S *const x = stacked->x(), *const y = stacked->y();
  if (c.backward) {
    bare.push_back(make({all, k, u, false, true, y, w, stacked->dx()}));
    bare.push_back(make({k, u, all, true, false, x, y, dw}));
    joined = bare;
  } else {
    bare.push_back(make({all, u, k, false, false, x, w, y}));
    joined.push_back(make({all, u, k, false, false, x, w, y, 0, p->bias_device.data()}));
  }
  joined.insert(joined.begin(), stacked->before());
  joined.push_back(stacked->after());
  const auto all_of = [](const std::vector<Work>& works) -> Work {
    return [works](CUstream_st* stream) { return run_all(works, stream); };
  };
  const auto launches = [](const std::vector<Work>& w) { return static_cast<int>(w.size()); };
  return {{"separate", all_of(separate), launches(separate)},
          {"concat", all_of(joined), launches(joined)},
          {"gemm", all_of(bare), launches(bare), false}};
}

}  // namespace bench
