// The two ops for functions that XLA compiles (jit_compile=True). On the CPU
// the compiled code calls the core; elsewhere, with SHARED_DENSE_XLA=dot, or
// where a size is dynamic, the products are XLA's own.
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "jit/call.h"
#include "jit/dots.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tf/attributes.h"
#include "tf/geometry.h"
#if __has_include("xla/hlo/builder/xla_builder.h")
#include "xla/hlo/builder/xla_builder.h"
#else
#include "xla/client/xla_builder.h"
#endif
#include "xla/shape_util.h"

namespace shared_dense {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::XlaOpKernel;
using tensorflow::XlaOpKernelContext;
using xla::XlaOp;

bool dots_wanted() {
  const char* const value = std::getenv("SHARED_DENSE_XLA");
  return value != nullptr && std::string_view(value) == "dot";
}

template <class Numbers>
std::string numbers(const char* name, const Numbers& values) {
  return absl::StrCat(name, " = array<i32: ", absl::StrJoin(values, ", "), ">");
}

std::string flag(const char* name, bool value) {
  return absl::StrCat(name, " = ", value ? "true" : "false");
}

std::vector<int> indices(const std::vector<Activation>& activations) {
  std::vector<int> list;
  for (const Activation activation : activations) list.push_back(static_cast<int>(activation));
  return list;
}

// A list of an op's arguments.
struct List {
  std::vector<XlaOp> ops;
  std::vector<TensorShape> shapes;  // of dynamic sizes their bounds
  bool is_static = true;

  absl::Status read(XlaOpKernelContext* ctx, const char* name) {
    TF_RETURN_IF_ERROR(ctx->InputList(name, &ops, &shapes));
    for (const XlaOp op : ops) {
      const auto shape = ctx->builder()->GetShape(op);
      TF_RETURN_IF_ERROR(shape.status());
      is_static = is_static && shape->is_static();
    }
    return absl::OkStatus();
  }
  auto shape() const {
    return [this](int i) -> const TensorShape& { return shapes[i]; };
  }
};

// What both ops read.
struct Call {
  Geometry geometry;
  List inputs, kernel, biases;
  xla::PrimitiveType type;

  absl::Status read(XlaOpKernelContext* ctx, const char* op, const Attributes& attributes) {
    TF_RETURN_IF_ERROR(inputs.read(ctx, "inputs"));
    TF_RETURN_IF_ERROR(biases.read(ctx, "biases"));
    TF_RETURN_IF_ERROR(kernel.read(ctx, "kernel"));
    type = ctx->InputXlaType("kernel");
    return geometry.read(op, attributes, inputs.ops.size(), inputs.shape(), kernel.shapes[0],
                         biases.ops.size(), biases.shape());
  }

  bool is_static() const { return inputs.is_static && kernel.is_static && biases.is_static; }

  Dots dots(const Attributes& attributes, bool stacked) const {
    return {geometry,  attributes.transpose_kernel, stacked, type, inputs.ops, kernel.ops[0],
            biases.ops};
  }
};

// Calls a handler of the core; the results have these shapes.
std::vector<XlaOp> call_core(XlaOpKernelContext* ctx, const char* target,
                             const std::vector<XlaOp>& operands,
                             const std::vector<TensorShape>& results, xla::PrimitiveType type,
                             const std::vector<std::string>& attributes) {
  xla::XlaBuilder* const builder = ctx->builder();
  // The core wants rows to be contiguous.
  const auto by_rows = [&](const auto& sizes) {
    return xla::ShapeUtil::MakeShapeWithDescendingLayout(type, sizes);
  };
  std::vector<xla::Shape> operand_shapes, result_shapes;
  for (const XlaOp operand : operands) {
    const auto shape = builder->GetShape(operand);
    if (!shape.ok()) {
      ctx->SetStatus(shape.status());
      return {};
    }
    operand_shapes.push_back(by_rows(shape->dimensions()));
  }
  for (const TensorShape& shape : results) result_shapes.push_back(by_rows(shape.dim_sizes()));
  const XlaOp done = xla::CustomCallWithLayout(
      builder, target, operands, xla::ShapeUtil::MakeTupleShape(result_shapes), operand_shapes,
      absl::StrCat("{", absl::StrJoin(attributes, ", "), "}"), /*has_side_effect=*/false,
      /*output_operand_aliasing=*/{}, /*literal=*/nullptr, xla::CustomCallSchedule::SCHEDULE_NONE,
      xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);
  std::vector<XlaOp> parts;
  for (std::size_t i = 0; i < results.size(); ++i) {
    parts.push_back(xla::GetTupleElement(done, i));
  }
  return parts;
}

void set_outputs(XlaOpKernelContext* ctx, const std::vector<XlaOp>& outputs) {
  for (std::size_t i = 0; i < outputs.size(); ++i) ctx->SetOutput(i, outputs[i]);
}

void append(std::vector<XlaOp>* to, const std::vector<XlaOp>& list) {
  to->insert(to->end(), list.begin(), list.end());
}

// kHost: compiled for the CPU.
template <bool kHost>
class SharedMatMulJit : public XlaOpKernel {
 public:
  explicit SharedMatMulJit(OpKernelConstruction* ctx) : XlaOpKernel(ctx) {
    OP_REQUIRES_OK(ctx, attributes_.read(ctx));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("num_pre_activations", &kept_));
  }

  void Compile(XlaOpKernelContext* ctx) override {
    Call call;
    OP_REQUIRES_OK(ctx, call.read(ctx, "SharedMatMul", attributes_));
    const Geometry& geometry = call.geometry;
    OP_REQUIRES_OK(ctx, geometry.check_kept(kept_));
    // XLA calls no function with a dynamic size.
    if (!kHost || dots_wanted() || !call.is_static()) {
      set_outputs(ctx, call.dots(attributes_, call.is_static()).forward(kept_ > 0));
      return;
    }
    std::vector<XlaOp> operands = call.inputs.ops;
    append(&operands, call.kernel.ops);
    append(&operands, call.biases.ops);
    std::vector<TensorShape> results = geometry.output_shapes;
    if (kept_ > 0) results.insert(results.end(), results.begin(), results.begin() + kept_);
    set_outputs(ctx, call_core(ctx, call::kForward, operands, results, call.type,
                               {numbers(call::kActivations, indices(geometry.activations)),
                                numbers(call::kBiasOf, geometry.bias_of),
                                flag(call::kTransposed, attributes_.transpose_kernel),
                                flag(call::kKept, kept_ > 0)}));
  }

 private:
  Attributes attributes_;
  int kept_ = 0;
};

template <bool kHost>
class SharedMatMulGradJit : public XlaOpKernel {
 public:
  explicit SharedMatMulGradJit(OpKernelConstruction* ctx) : XlaOpKernel(ctx) {
    OP_REQUIRES_OK(ctx, attributes_.read(ctx));
    OP_REQUIRES_OK(ctx, wanted_.read(ctx));
  }

  void Compile(XlaOpKernelContext* ctx) override {
    Call call;
    OP_REQUIRES_OK(ctx, call.read(ctx, "SharedMatMulGrad", attributes_));
    const Geometry& geometry = call.geometry;
    const std::size_t n = call.inputs.ops.size(), biases = call.biases.ops.size();
    OP_REQUIRES_OK(ctx, wanted_.check(n, biases));
    List grads, saved;
    OP_REQUIRES_OK(ctx, grads.read(ctx, "output_grads"));
    OP_REQUIRES_OK(ctx, saved.read(ctx, "saved"));
    bool saves = false;
    for (std::size_t i = 0; i < n; ++i) {
      OP_REQUIRES_OK(ctx,
                     geometry.check_gradient(i, grads.shape(), saved.ops.size(), saved.shape()));
      saves |= !geometry.is_linear(i);
    }
    const bool is_static = call.is_static() && grads.is_static && saved.is_static;
    if (!kHost || dots_wanted() || !is_static) {
      set_outputs(ctx,
                  call.dots(attributes_, is_static)
                      .backward(grads.ops, saved.ops, call.inputs.shapes, attributes_, wanted_));
      return;
    }
    std::vector<TensorShape> results;
    std::vector<int> trains;
    for (std::size_t i = 0; i < n; ++i) {
      if (wanted_.input[i]) results.push_back(call.inputs.shapes[i]);
      trains.push_back(attributes_.trains(i));
    }
    if (wanted_.kernels > 0) results.push_back(call.kernel.shapes[0]);
    for (int b = 0; b < wanted_.biases; ++b) results.push_back(call.biases.shapes[b]);
    if (results.empty()) return;
    std::vector<XlaOp> operands = grads.ops;
    append(&operands, call.inputs.ops);
    append(&operands, call.kernel.ops);
    if (saves) append(&operands, saved.ops);
    set_outputs(ctx, call_core(ctx, call::kBackward, operands, results, call.type,
                               {numbers(call::kActivations, indices(geometry.activations)),
                                numbers(call::kBiasOf, geometry.bias_of),
                                numbers(call::kTrainsKernel, trains),
                                numbers(call::kNeedsInput, std::vector<int>(wanted_.input.begin(),
                                                                            wanted_.input.end())),
                                flag(call::kTransposed, attributes_.transpose_kernel),
                                flag(call::kNeedsKernel, wanted_.kernels > 0),
                                flag(call::kNeedsBiases, wanted_.biases > 0)}));
  }

 private:
  Attributes attributes_;
  Wanted wanted_;
};

// A priority, so that order of loading does not matter: REGISTER_XLA_OP has no
// effect once a function was compiled.
#define SHARED_DENSE_REGISTER(device, is_host)                                             \
  REGISTER_KERNEL_BUILDER(Name("SharedDense>SharedMatMul").Device(device).Priority(1),     \
                          SharedMatMulJit<is_host>);                                       \
  REGISTER_KERNEL_BUILDER(Name("SharedDense>SharedMatMulGrad").Device(device).Priority(1), \
                          SharedMatMulGradJit<is_host>);
SHARED_DENSE_REGISTER("XLA_CPU_JIT", true)
SHARED_DENSE_REGISTER("XLA_GPU_JIT", false)

}  // namespace
}  // namespace shared_dense
