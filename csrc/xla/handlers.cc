// The core as functions that code compiled by XLA calls on the host.
#include "xla/handlers.h"

#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/isa/dispatch.h"
#include "core/pool_use.h"
#include "core/shared_matmul.h"
#include "xla/ffi/api/ffi.h"
#include "xla/frame.h"

namespace xla::ffi {
// Declared in a header that cannot be had beside the one above.
const XLA_FFI_Api* GetXlaFfiApi();
}  // namespace xla::ffi

namespace shared_dense {
namespace {

namespace ffi = ::xla::ffi;
using List = ffi::Span<const std::int32_t>;

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

template <class T, class Call>
Kernel<T> kernel_of(const Call& call) {
  return {call.kernel.template of<T>(0), call.geometry.in_features, call.geometry.units,
          call.attributes.transpose_kernel};
}

ffi::Error answer(bool done, const char* op) {
  if (done) return ffi::Error::Success();
  return ffi::Error(ffi::ErrorCode::kResourceExhausted,
                    std::string(op) + ": no memory for packed weights or dZ");
}

template <class T>
ffi::Error forward_of(const Context& context, const ForwardCall& call) {
  const Geometry& geometry = call.geometry;
  const Attributes& attributes = call.attributes;
  std::vector<ForwardSegment<T>> segments(geometry.rows.size());
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const int bias = attributes.bias_of[i];
    segments[i].rows = geometry.rows[i];
    segments[i].x = call.inputs.of<T>(i);
    segments[i].y = call.outputs.of<T>(i);
    segments[i].pre_activation =
        call.pre_activations.data.empty() ? nullptr : call.pre_activations.of<T>(i);
    segments[i].bias = bias < 0 ? nullptr : call.biases.of<T>(bias);
    segments[i].activation = attributes.activations[i];
  }
  return answer(forward(context, kernel_of<T>(call), segments), "SharedMatMul");
}

template <class T>
ffi::Error backward_of(const Context& context, const BackwardCall& call) {
  const Geometry& geometry = call.geometry;
  const Attributes& attributes = call.attributes;
  std::vector<BackwardSegment<T>> segments(geometry.rows.size());
  for (std::size_t i = 0, next_dx = 0; i < segments.size(); ++i) {
    BackwardSegment<T>& segment = segments[i];
    segment.rows = geometry.rows[i];
    segment.activation = attributes.activations[i];
    segment.trains_kernel = attributes.trains_kernel[i];
    segment.x = call.inputs.of<T>(i);
    segment.dy = call.output_grads.of<T>(i);
    if (!attributes.is_linear(i)) segment.saved = call.saved.of<T>(i);
    if (call.wanted.input[i]) segment.dx = call.input_grads.of<T>(next_dx++);
    if (attributes.bias_of[i] >= 0) segment.dbias = call.bias_grads.of<T>(attributes.bias_of[i]);
  }
  // The core writes those that a segment names.
  for (void* const sum : call.bias_grads.data) {
    if (sum != nullptr) std::memset(sum, 0, geometry.units * sizeof(T));
  }
  T* const dkernel = call.wanted.kernels > 0 ? call.kernel_grads.of<T>(0) : nullptr;
  return answer(backward(context, kernel_of<T>(call), segments, dkernel), "SharedMatMulGrad");
}

// Reads a call, then has compute(call, T()) compute in the type of its tensors.
template <class Call, class Read, class Compute>
ffi::Error checked(Frame frame, const Read& read, const Compute& compute) {
  if (active_isa() == nullptr) return ffi::Error(ffi::ErrorCode::kFailedPrecondition, isa_error());
  Call call;
  const absl::Status status = read(&call, &frame);
  if (!status.ok()) {
    return ffi::Error(ffi::ErrorCode::kInvalidArgument, std::string(status.message()));
  }
  switch (frame.type()) {
    case ffi::DataType::F32: return compute(call, float());
    case ffi::DataType::F64: return compute(call, double());
    case ffi::DataType::BF16: return compute(call, BFloat16());
    default: return compute(call, Half());  // the frame has seen to it
  }
}

Numbers numbers(List list) { return {list.begin(), list.size()}; }

ffi::Error forward_handler(ffi::ThreadPool pool, ffi::RemainingArgs in, ffi::RemainingRets out,
                           List activations, List bias_of, bool transpose_kernel,
                           bool pre_activations) {
  return checked<ForwardCall>(
      Frame("SharedMatMul", in, out),
      [&](ForwardCall* call, Frame* frame) {
        return call->read(frame, numbers(activations), numbers(bias_of), transpose_kernel,
                          pre_activations);
      },
      [&](const ForwardCall& call, auto type) {
        Runtime runtime(pool);
        return forward_of<decltype(type)>(runtime.context(), call);
      });
}

ffi::Error backward_handler(ffi::ThreadPool pool, ffi::RemainingArgs in, ffi::RemainingRets out,
                            List activations, List bias_of, List trains_kernel, List needs_input,
                            bool transpose_kernel, bool needs_kernel, bool needs_biases) {
  return checked<BackwardCall>(
      Frame("SharedMatMulGrad", in, out),
      [&](BackwardCall* call, Frame* frame) {
        return call->read(frame, numbers(activations), numbers(bias_of), numbers(trains_kernel),
                          numbers(needs_input), transpose_kernel, needs_kernel, needs_biases);
      },
      [&](const BackwardCall& call, auto type) {
        Runtime runtime(pool);
        return backward_of<decltype(type)>(runtime.context(), call);
      });
}

// What both handlers take.
auto bind() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .RemainingArgs()
      .RemainingRets()
      .Attr<List>(handlers::kActivations)
      .Attr<List>(handlers::kBiasOf);
}

XLA_FFI_DEFINE_HANDLER(
    kForwardHandler, forward_handler,
    bind().Attr<bool>(handlers::kTransposeKernel).Attr<bool>(handlers::kPreActivations));

XLA_FFI_DEFINE_HANDLER(kBackwardHandler, backward_handler,
                       bind()
                           .Attr<List>(handlers::kTrainsKernel)
                           .Attr<List>(handlers::kNeedsInput)
                           .Attr<bool>(handlers::kTransposeKernel)
                           .Attr<bool>(handlers::kNeedsKernel)
                           .Attr<bool>(handlers::kNeedsBiases));

XLA_FFI_REGISTER_HANDLER(ffi::GetXlaFfiApi(), handlers::kForward, "Host", kForwardHandler);
XLA_FFI_REGISTER_HANDLER(ffi::GetXlaFfiApi(), handlers::kBackward, "Host", kBackwardHandler);

}  // namespace
}  // namespace shared_dense
