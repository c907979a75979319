// The core as functions that code compiled by XLA calls on the host.
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/dispatch.h"
#include "core/shared_matmul.h"
#include "jit/call.h"
#include "tf/awake.h"
#include "xla/ffi/api/ffi.h"

namespace xla::ffi {
// Declared in a header that cannot be had beside the one above.
const XLA_FFI_Api* GetXlaFfiApi();
}  // namespace xla::ffi

namespace shared_dense {
namespace {

namespace ffi = ::xla::ffi;
using Numbers = ffi::Span<const std::int32_t>;

// XLA's threads, which are TensorFlow's intra-op threads, and memory.
class Runtime : public ThreadPool, public Scratch {
 public:
  explicit Runtime(const ffi::ThreadPool& pool)
      : pool_(pool), threads_(std::max<std::int64_t>(1, pool.num_threads())) {}

  Context context() { return {this, this, active_isa()}; }

  int threads() const override { return threads_; }
  bool awake() const override { return use_.awake(); }
  void schedule(std::function<void()> task) override {
    use_.scheduled();
    pool_.Schedule(std::move(task));
  }

  void* allocate(std::size_t bytes) override {
    constexpr std::size_t kAlignment = 64;
    const std::size_t whole = (bytes / kAlignment + 1) * kAlignment;
    return memory_.emplace_back(std::aligned_alloc(kAlignment, whole)).get();
  }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  ffi::ThreadPool pool_;
  const int threads_;
  PoolUse use_;
  std::vector<std::unique_ptr<void, Free>> memory_;
};

// The buffers of a call, in order. XLA compiled the call, so their number and
// types are what the lowering said.
struct Arguments {
  ffi::RemainingArgs list;
  std::size_t next = 0;

  template <class T>
  const T* take() {
    return static_cast<const T*>(list.get<ffi::AnyBuffer>(next++)->untyped_data());
  }
  // All axes but the last. Not elements / width: the width may be 0.
  Index rows() const {
    const auto sizes = list.get<ffi::AnyBuffer>(next)->dimensions();
    Index rows = 1;
    for (std::size_t axis = 0; axis + 1 < sizes.size(); ++axis) rows *= sizes[axis];
    return rows;
  }
};

struct Results {
  ffi::RemainingRets list;
  std::size_t next = 0;

  template <class T>
  T* take() {
    return static_cast<T*>((*list.get<ffi::AnyBuffer>(next++))->untyped_data());
  }
};

template <class T>
Kernel<T> take_kernel(Arguments* arguments, bool transposed) {
  const auto sizes = arguments->list.get<ffi::AnyBuffer>(arguments->next)->dimensions();
  return {arguments->take<T>(), sizes[transposed ? 1 : 0], sizes[transposed ? 0 : 1], transposed};
}

ffi::Error answer(bool done, const char* op) {
  if (done) return ffi::Error::Success();
  return ffi::Error(ffi::ErrorCode::kResourceExhausted,
                    std::string(op) + ": no memory for packed weights or dZ");
}

template <class T>
ffi::Error forward_of(const Context& context, Arguments in, Results out, Numbers activations,
                      Numbers bias_of, bool transposed, bool kept) {
  const std::size_t n = activations.size();
  std::vector<ForwardSegment<T>> segments(n);
  for (std::size_t i = 0; i < n; ++i) {
    segments[i].rows = in.rows();
    segments[i].x = in.take<T>();
    segments[i].y = out.take<T>();
    segments[i].activation = static_cast<Activation>(activations[i]);
  }
  const Kernel<T> kernel = take_kernel<T>(&in, transposed);
  std::vector<const T*> biases;
  while (in.next < in.list.size()) biases.push_back(in.take<T>());
  for (std::size_t i = 0; i < n; ++i) {
    segments[i].bias = bias_of[i] < 0 ? nullptr : biases[bias_of[i]];
    segments[i].pre_activation = kept ? out.take<T>() : nullptr;
  }
  return answer(forward(context, kernel, segments), "SharedMatMul");
}

template <class T>
ffi::Error backward_of(const Context& context, Arguments in, Results out, Numbers activations,
                       Numbers bias_of, Numbers trains_kernel, Numbers needs_input, bool transposed,
                       bool needs_kernel, bool needs_biases) {
  const std::size_t n = activations.size();
  std::vector<BackwardSegment<T>> segments(n);
  for (BackwardSegment<T>& segment : segments) {
    segment.rows = in.rows();
    segment.dy = in.take<T>();
  }
  bool saves = false;
  for (std::size_t i = 0; i < n; ++i) {
    segments[i].x = in.take<T>();
    segments[i].dx = needs_input[i] != 0 ? out.take<T>() : nullptr;
    segments[i].activation = static_cast<Activation>(activations[i]);
    segments[i].trains_kernel = trains_kernel[i] != 0;
    saves |= segments[i].activation != Activation::kLinear;
  }
  const Kernel<T> kernel = take_kernel<T>(&in, transposed);
  T* const dkernel = needs_kernel ? out.take<T>() : nullptr;
  if (saves) {
    for (BackwardSegment<T>& segment : segments) segment.saved = in.take<T>();
  }
  if (needs_biases) {
    std::vector<T*> dbiases;
    while (out.next < out.list.size()) {
      dbiases.push_back(out.take<T>());
      // The core writes those that a segment names.
      std::memset(static_cast<void*>(dbiases.back()), 0, kernel.units * sizeof(T));
    }
    for (std::size_t i = 0; i < n; ++i) {
      segments[i].dbias = bias_of[i] < 0 ? nullptr : dbiases[bias_of[i]];
    }
  }
  return answer(backward(context, kernel, segments, dkernel), "SharedMatMulGrad");
}

// Calls compute(T()) for the type of a call's first argument.
template <class Compute>
ffi::Error by_type(const ffi::RemainingArgs& arguments, const Compute& compute) {
  if (active_isa() == nullptr) return ffi::Error(ffi::ErrorCode::kFailedPrecondition, isa_error());
  switch (arguments.get<ffi::AnyBuffer>(0)->element_type()) {
    case ffi::DataType::F32: return compute(float());
    case ffi::DataType::F64: return compute(double());
    case ffi::DataType::BF16: return compute(BFloat16());
    case ffi::DataType::F16: return compute(Half());
    default: return ffi::Error(ffi::ErrorCode::kInvalidArgument, "shared_dense: no such dtype");
  }
}

ffi::Error forward_handler(ffi::ThreadPool pool, ffi::RemainingArgs in, ffi::RemainingRets out,
                           Numbers activations, Numbers bias_of, bool transposed, bool kept) {
  return by_type(in, [&](auto type) {
    Runtime runtime(pool);
    return forward_of<decltype(type)>(runtime.context(), {in}, {out}, activations, bias_of,
                                      transposed, kept);
  });
}

ffi::Error backward_handler(ffi::ThreadPool pool, ffi::RemainingArgs in, ffi::RemainingRets out,
                            Numbers activations, Numbers bias_of, Numbers trains_kernel,
                            Numbers needs_input, bool transposed, bool needs_kernel,
                            bool needs_biases) {
  return by_type(in, [&](auto type) {
    Runtime runtime(pool);
    return backward_of<decltype(type)>(runtime.context(), {in}, {out}, activations, bias_of,
                                       trains_kernel, needs_input, transposed, needs_kernel,
                                       needs_biases);
  });
}

// What both handlers take.
auto bind() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .RemainingArgs()
      .RemainingRets()
      .Attr<Numbers>(call::kActivations)
      .Attr<Numbers>(call::kBiasOf);
}

XLA_FFI_DEFINE_HANDLER(kForwardHandler, forward_handler,
                       bind().Attr<bool>(call::kTransposed).Attr<bool>(call::kKept));

XLA_FFI_DEFINE_HANDLER(kBackwardHandler, backward_handler,
                       bind()
                           .Attr<Numbers>(call::kTrainsKernel)
                           .Attr<Numbers>(call::kNeedsInput)
                           .Attr<bool>(call::kTransposed)
                           .Attr<bool>(call::kNeedsKernel)
                           .Attr<bool>(call::kNeedsBiases));

XLA_FFI_REGISTER_HANDLER(ffi::GetXlaFfiApi(), call::kForward, "Host", kForwardHandler);
XLA_FFI_REGISTER_HANDLER(ffi::GetXlaFfiApi(), call::kBackward, "Host", kBackwardHandler);

}  // namespace
}  // namespace shared_dense
