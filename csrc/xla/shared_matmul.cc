// The two ops for functions that XLA compiles (jit_compile=True). On the CPU
// the compiled code calls the core; elsewhere, or with SHARED_DENSE_XLA=dot, the
// products are XLA's own.
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tf/attributes.h"
#include "tf/geometry.h"
#include "xla/bounds.h"
#include "xla/dots.h"
#include "xla/handlers.h"
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

std::vector<int> flags(const std::vector<bool>& list) { return {list.begin(), list.end()}; }

// A list of an op's arguments, as tensors of bounds.
struct List {
  std::vector<XlaOp> ops;
  std::vector<TensorShape> shapes;
  std::vector<Sizes> sizes;

  absl::Status read(XlaOpKernelContext* ctx, const char* name) {
    TF_RETURN_IF_ERROR(ctx->InputList(name, &ops, &shapes));
    for (XlaOp& op : ops) {
      absl::StatusOr<Sizes> taken = take_sizes(&op);
      TF_RETURN_IF_ERROR(taken.status());
      sizes.push_back(*std::move(taken));
    }
    return absl::OkStatus();
  }
  auto shape() const {
    return [this](int i) -> const TensorShape& { return shapes[i]; };
  }
};

// What both ops read.
struct Operands {
  Geometry geometry;
  List inputs, kernel, biases;
  xla::PrimitiveType type;

  absl::Status read(XlaOpKernelContext* ctx, const char* op, const Attributes& attributes) {
    TF_RETURN_IF_ERROR(inputs.read(ctx, "inputs"));
    TF_RETURN_IF_ERROR(biases.read(ctx, "biases"));
    TF_RETURN_IF_ERROR(kernel.read(ctx, "kernel"));
    type = ctx->InputXlaType("kernel");
    return geometry.read(op, attributes, inputs.shape(), kernel.shapes[0], biases.ops.size(),
                         biases.shape());
  }

  Dots dots(const Attributes& attributes) const {
    return {attributes, geometry, type, inputs.ops, kernel.ops[0], biases.ops};
  }

  // Rows come from the input, columns from the kernel.
  Sizes output_sizes(int i, bool transpose_kernel) const {
    Sizes sizes = inputs.sizes[i];
    sizes.back() = kernel.sizes[0][transpose_kernel ? 0 : 1];
    return sizes;
  }
};

// Calls a handler of the core; the results have these shapes.
std::vector<XlaOp> call_core(XlaOpKernelContext* ctx, const char* target,
                             const std::vector<XlaOp>& arguments,
                             const std::vector<TensorShape>& results, xla::PrimitiveType type,
                             const std::vector<std::string>& attributes) {
  xla::XlaBuilder* const builder = ctx->builder();
  // The core wants rows to be contiguous.
  const auto by_rows = [&](const auto& sizes) {
    return xla::ShapeUtil::MakeShapeWithDescendingLayout(type, sizes);
  };
  std::vector<xla::Shape> argument_shapes, result_shapes;
  for (const XlaOp argument : arguments) {
    const auto shape = builder->GetShape(argument);
    if (!shape.ok()) {
      ctx->SetStatus(shape.status());
      return {};
    }
    argument_shapes.push_back(by_rows(shape->dimensions()));
  }
  for (const TensorShape& shape : results) result_shapes.push_back(by_rows(shape.dim_sizes()));
  const XlaOp done = xla::CustomCallWithLayout(
      builder, target, arguments, xla::ShapeUtil::MakeTupleShape(result_shapes), argument_shapes,
      absl::StrCat("{", absl::StrJoin(attributes, ", "), "}"), /*has_side_effect=*/false,
      /*output_operand_aliasing=*/{}, /*literal=*/nullptr, xla::CustomCallSchedule::SCHEDULE_NONE,
      xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);
  std::vector<XlaOp> parts;
  for (std::size_t i = 0; i < results.size(); ++i) {
    parts.push_back(xla::GetTupleElement(done, i));
  }
  return parts;
}

void set_outputs(XlaOpKernelContext* ctx, const std::vector<XlaOp>& outputs,
                 const std::vector<Sizes>& sizes) {
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    ctx->SetOutput(i, with_sizes(outputs[i], sizes[i]));
  }
}

template <class T>
void append(std::vector<T>* to, const std::vector<T>& list) {
  to->insert(to->end(), list.begin(), list.end());
}

// kHost: compiled for the CPU.
template <bool kHost>
class SharedMatMulXlaOp : public XlaOpKernel {
 public:
  explicit SharedMatMulXlaOp(OpKernelConstruction* ctx) : XlaOpKernel(ctx) {
    OP_REQUIRES_OK(ctx, attributes_.read("SharedMatMul", ctx));
    OP_REQUIRES_OK(ctx, read_pre_activations(ctx, attributes_, &wants_pre_activations_));
  }

  void Compile(XlaOpKernelContext* ctx) override {
    Operands operands;
    OP_REQUIRES_OK(ctx, operands.read(ctx, "SharedMatMul", attributes_));
    const Geometry& geometry = operands.geometry;
    std::vector<Sizes> sizes;
    for (std::size_t i = 0; i < operands.inputs.ops.size(); ++i) {
      sizes.push_back(operands.output_sizes(i, attributes_.transpose_kernel));
    }
    std::vector<TensorShape> results = geometry.output_shapes;
    if (wants_pre_activations_) {
      append(&sizes, std::vector(sizes));
      append(&results, geometry.output_shapes);
    }
    if (!kHost || dots_wanted()) {
      set_outputs(ctx, operands.dots(attributes_).forward(wants_pre_activations_), sizes);
      return;
    }
    std::vector<XlaOp> arguments = operands.inputs.ops;
    append(&arguments, operands.kernel.ops);
    append(&arguments, operands.biases.ops);
    set_outputs(ctx,
                call_core(ctx, handlers::kForward, arguments, results, operands.type,
                          {numbers(handlers::kActivations, indices(attributes_.activations)),
                           numbers(handlers::kBiasOf, attributes_.bias_of),
                           flag(handlers::kTransposeKernel, attributes_.transpose_kernel),
                           flag(handlers::kPreActivations, wants_pre_activations_)}),
                sizes);
  }

 private:
  Attributes attributes_;
  bool wants_pre_activations_ = false;
};

template <bool kHost>
class SharedMatMulGradXlaOp : public XlaOpKernel {
 public:
  explicit SharedMatMulGradXlaOp(OpKernelConstruction* ctx) : XlaOpKernel(ctx) {
    OP_REQUIRES_OK(ctx, attributes_.read("SharedMatMulGrad", ctx));
    OP_REQUIRES_OK(ctx, wanted_.read(ctx));
  }

  void Compile(XlaOpKernelContext* ctx) override {
    Operands operands;
    OP_REQUIRES_OK(ctx, operands.read(ctx, "SharedMatMulGrad", attributes_));
    const Geometry& geometry = operands.geometry;
    const std::size_t n = operands.inputs.ops.size();
    List grads, saved;
    OP_REQUIRES_OK(ctx, grads.read(ctx, "output_grads"));
    OP_REQUIRES_OK(ctx, saved.read(ctx, "saved"));
    bool saves = false;
    for (std::size_t i = 0; i < n; ++i) {
      OP_REQUIRES_OK(ctx, geometry.check_gradient(attributes_, i, grads.shape(), saved.ops.size(),
                                                  saved.shape()));
      saves |= !attributes_.is_linear(i);
    }
    std::vector<TensorShape> results;
    std::vector<Sizes> sizes;
    const auto like = [&](const List& list, int i) {
      results.push_back(list.shapes[i]);
      sizes.push_back(list.sizes[i]);
    };
    for (std::size_t i = 0; i < n; ++i) {
      if (wanted_.input[i]) like(operands.inputs, i);
    }
    if (wanted_.kernels > 0) like(operands.kernel, 0);
    for (int b = 0; b < wanted_.biases; ++b) like(operands.biases, b);
    if (!kHost || dots_wanted()) {
      set_outputs(ctx,
                  operands.dots(attributes_)
                      .backward(grads.ops, saved.ops, operands.inputs.shapes, wanted_),
                  sizes);
      return;
    }
    if (results.empty()) return;
    std::vector<XlaOp> arguments = grads.ops;
    append(&arguments, operands.inputs.ops);
    append(&arguments, operands.kernel.ops);
    if (saves) append(&arguments, saved.ops);
    set_outputs(ctx,
                call_core(ctx, handlers::kBackward, arguments, results, operands.type,
                          {numbers(handlers::kActivations, indices(attributes_.activations)),
                           numbers(handlers::kBiasOf, attributes_.bias_of),
                           numbers(handlers::kTrainsKernel, flags(attributes_.trains_kernel)),
                           numbers(handlers::kNeedsInput, flags(wanted_.input)),
                           flag(handlers::kTransposeKernel, attributes_.transpose_kernel),
                           flag(handlers::kNeedsKernel, wanted_.kernels > 0),
                           flag(handlers::kNeedsBiases, wanted_.biases > 0)}),
                sizes);
  }

 private:
  Attributes attributes_;
  Wanted wanted_;
};

// A priority, so that order of loading does not matter: REGISTER_XLA_OP has no
// effect once a function was compiled.
#define SHARED_DENSE_REGISTER(device, is_host)                                             \
  REGISTER_KERNEL_BUILDER(Name("SharedDense>SharedMatMul").Device(device).Priority(1),     \
                          SharedMatMulXlaOp<is_host>);                                     \
  REGISTER_KERNEL_BUILDER(Name("SharedDense>SharedMatMulGrad").Device(device).Priority(1), \
                          SharedMatMulGradXlaOp<is_host>);
SHARED_DENSE_REGISTER("XLA_CPU_JIT", true)
SHARED_DENSE_REGISTER("XLA_GPU_JIT", false)

}  // namespace
}  // namespace shared_dense
