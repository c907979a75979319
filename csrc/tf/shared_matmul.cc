// CPU kernels of the two ops: check everything, then call the core.
#include "core/shared_matmul.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "core/explain.h"
#include "core/products.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tf/attributes.h"
#include "tf/framework.h"
#include "tf/verbose.h"

namespace shared_dense {
namespace {

using tensorflow::OpInputList;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::OpOutputList;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// The core's name for the type that a tensor of T holds.
template <class T>
struct StorageOf {
  using Type = T;
};
template <>
struct StorageOf<Eigen::bfloat16> {
  using Type = BFloat16;
};
template <>
struct StorageOf<Eigen::half> {
  using Type = Half;
};
template <class T>
using Storage = typename StorageOf<T>::Type;

template <class T>
const Storage<T>* data_of(const Tensor& tensor) {
  return static_cast<const Storage<T>*>(static_cast<const void*>(tensor.flat<T>().data()));
}
template <class T>
Storage<T>* data_of(Tensor* tensor) {
  return static_cast<Storage<T>*>(static_cast<void*>(tensor->flat<T>().data()));
}

// The operands of either op, after their shapes were checked.
template <class T>
struct Operands {
  OpInputList inputs, biases;
  const Tensor* kernel_tensor;
  Kernel<Storage<T>> kernel;
  std::vector<Index> rows;
  std::vector<TensorShape> output_shapes;
  std::vector<Activation> activations;
  std::vector<int> bias_of;  // -1: none

  absl::Status read(OpKernelContext* ctx, const char* op, const Attributes& attributes) {
    if (active_isa() == nullptr) return absl::FailedPreconditionError(isa_error());
    TF_RETURN_IF_ERROR(ctx->input_list("inputs", &inputs));
    TF_RETURN_IF_ERROR(ctx->input("kernel", &kernel_tensor));
    TF_RETURN_IF_ERROR(ctx->input_list("biases", &biases));
    TF_RETURN_IF_ERROR(attributes.check(op, inputs.size(), biases.size()));
    activations = attributes.activations(inputs.size());
    for (int i = 0; i < inputs.size(); ++i) {
      bias_of.push_back(attributes.bias_index(i, biases.size()));
    }

    const TensorShape& shape = kernel_tensor->shape();
    if (shape.dims() != 2) {
      return invalid(op, ": kernel must have rank 2, got shape ", shape.DebugString());
    }
    const bool transposed = attributes.transpose_kernel;
    kernel = {data_of<T>(*kernel_tensor), shape.dim_size(transposed ? 1 : 0),
              shape.dim_size(transposed ? 0 : 1), transposed};
    for (int i = 0; i < inputs.size(); ++i) {
      const TensorShape& input = inputs[i].shape();
      if (input.dims() < 1) {
        return invalid(op, ": inputs[", i, "] must have rank >= 1, got a scalar");
      }
      if (input.dim_size(input.dims() - 1) != kernel.in_features) {
        return invalid(width_error(op, i, input.DebugString(), shape.DebugString(),
                                   kernel.in_features, transposed));
      }
      rows.push_back(row_count(input));
      TensorShape output = input;
      // Fails, where set_dim would abort, when the sizes multiply past int64.
      TF_RETURN_IF_ERROR(output.SetDimWithStatus(output.dims() - 1, kernel.units));
      output_shapes.push_back(output);
    }
    for (int i = 0; i < biases.size(); ++i) {
      if (biases[i].dims() != 1 || biases[i].dim_size(0) != kernel.units) {
        return invalid(
            bias_error(op, i, biases[i].shape().DebugString(), shape.DebugString(), kernel.units));
      }
    }
    return absl::OkStatus();
  }

  // "SharedMatMul float, rows 8+8, 1024 -> 64, kernel transposed"
  std::string title(const char* op) const {
    return absl::StrCat(op, " ", tensorflow::DataTypeString(kernel_tensor->dtype()), ", rows ",
                        absl::StrJoin(rows, "+"), ", ", kernel.in_features, " -> ", kernel.units,
                        kernel.transposed ? ", kernel transposed" : "");
  }

  // That of the inputs for which `takes_part(i)`.
  template <class TakesPart>
  CallShape shape(const TakesPart& takes_part) const {
    CallShape shape{{}, kernel.in_features, kernel.units, kernel.transposed};
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (takes_part(i)) shape.rows.push_back(rows[i]);
    }
    return shape;
  }

  // All axes but the last. Not num_elements / width: the width may be 0.
  static Index row_count(const TensorShape& shape) {
    Index rows = 1;
    for (int axis = 0; axis + 1 < shape.dims(); ++axis) rows *= shape.dim_size(axis);
    return rows;
  }

  const Storage<T>* bias(int i) const {
    return bias_of[i] < 0 ? nullptr : data_of<T>(biases[bias_of[i]]);
  }
};

template <class T>
class SharedMatMulOp : public OpKernel {
 public:
  explicit SharedMatMulOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, attributes_.read(ctx));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("num_pre_activations", &kept_));
  }

  // The executor hands an "expensive" op to another thread while it runs the
  // small ones around it; waking that thread costs more than most calls take
  // (measured, 4 inputs of 1 row, 512 x 512: 50 us in a graph against 33), and
  // large calls spread over the intra-op threads by themselves.
  bool IsExpensive() override { return false; }

  void Compute(OpKernelContext* ctx) override {
    Operands<T> operands;
    OP_REQUIRES_OK(ctx, operands.read(ctx, "SharedMatMul", attributes_));
    const int n = operands.inputs.size();
    OP_REQUIRES(ctx, kept_ == 0 || kept_ == n,
                invalid("SharedMatMul: num_pre_activations must be 0 or the number of "
                        "inputs (",
                        n, "), got ", kept_));
    OpOutputList outputs, pre_activations;
    OP_REQUIRES_OK(ctx, ctx->output_list("outputs", &outputs));
    OP_REQUIRES_OK(ctx, ctx->output_list("pre_activations", &pre_activations));
    std::vector<ForwardSegment<Storage<T>>> segments(n);
    for (int i = 0; i < n; ++i) {
      Tensor *y = nullptr, *z = nullptr;
      OP_REQUIRES_OK(ctx, outputs.allocate(i, operands.output_shapes[i], &y));
      if (kept_ != 0) {
        OP_REQUIRES_OK(ctx, pre_activations.allocate(i, operands.output_shapes[i], &z));
      }
      segments[i] = {operands.rows[i], data_of<T>(operands.inputs[i]),
                     data_of<T>(y),    z == nullptr ? nullptr : data_of<T>(z),
                     operands.bias(i), operands.activations[i]};
    }
    Framework framework(ctx);
    const Context context = framework.context();
    if (verbose()) {
      say_once(operands.title("SharedMatMul"), [&] {
        const CallShape shape = operands.shape([](int) { return true; });
        return "  " + explain_forward<Storage<T>>(*context.isa, workers_of(context), shape) + "\n";
      });
    }
    OP_REQUIRES(ctx, forward(context, operands.kernel, segments),
                absl::ResourceExhaustedError("SharedMatMul: no memory for packed weights"));
  }

 private:
  Attributes attributes_;
  int kept_ = 0;
};

template <class T>
class SharedMatMulGradOp : public OpKernel {
 public:
  explicit SharedMatMulGradOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, attributes_.read(ctx));
    OP_REQUIRES_OK(ctx, wanted_.read(ctx));
  }

  bool IsExpensive() override { return false; }  // as above

  void Compute(OpKernelContext* ctx) override {
    Operands<T> operands;
    OP_REQUIRES_OK(ctx, operands.read(ctx, "SharedMatMulGrad", attributes_));
    const int n = operands.inputs.size();
    OP_REQUIRES_OK(ctx, wanted_.check(n, operands.biases.size()));
    OpInputList grads, saved;
    OP_REQUIRES_OK(ctx, ctx->input_list("output_grads", &grads));
    OP_REQUIRES_OK(ctx, ctx->input_list("saved", &saved));
    OpOutputList dx, dkernel, dbias;
    OP_REQUIRES_OK(ctx, ctx->output_list("input_grads", &dx));
    OP_REQUIRES_OK(ctx, ctx->output_list("kernel_grads", &dkernel));
    OP_REQUIRES_OK(ctx, ctx->output_list("bias_grads", &dbias));

    std::vector<BackwardSegment<Storage<T>>> segments(n);
    for (int i = 0, next_dx = 0; i < n; ++i) {
      OP_REQUIRES_OK(ctx, check_like_output(operands, "output_grads", i, grads[i].shape()));
      BackwardSegment<Storage<T>>& segment = segments[i];
      segment.rows = operands.rows[i];
      segment.activation = operands.activations[i];
      segment.trains_kernel = attributes_.trains(i);
      segment.x = data_of<T>(operands.inputs[i]);
      segment.dy = data_of<T>(grads[i]);
      if (segment.activation != Activation::kLinear) {
        OP_REQUIRES(ctx, saved.size() == n,
                    invalid("SharedMatMulGrad: saved must hold one tensor per input (", n,
                            ") unless all activations are linear, got ", saved.size()));
        OP_REQUIRES_OK(ctx, check_like_output(operands, "saved", i, saved[i].shape()));
        segment.saved = data_of<T>(saved[i]);
      }
      Tensor* tensor = nullptr;
      if (wanted_.input[i]) {
        OP_REQUIRES_OK(ctx, dx.allocate(next_dx++, operands.inputs[i].shape(), &tensor));
        segment.dx = data_of<T>(tensor);
      }
    }
    Tensor* tensor = nullptr;
    Storage<T>* dw = nullptr;
    if (wanted_.kernels == 1) {
      OP_REQUIRES_OK(ctx, dkernel.allocate(0, operands.kernel_tensor->shape(), &tensor));
      dw = data_of<T>(tensor);
    }
    for (int bias = 0; bias < wanted_.biases; ++bias) {
      OP_REQUIRES_OK(ctx, dbias.allocate(bias, operands.biases[bias].shape(), &tensor));
      // The core writes those that a segment names.
      std::fill_n(data_of<T>(tensor), operands.kernel.units, Storage<T>{});
      for (int i = 0; i < n; ++i) {
        if (operands.bias_of[i] == bias) segments[i].dbias = data_of<T>(tensor);
      }
    }
    Framework framework(ctx);
    const Context context = framework.context();
    if (verbose()) {
      say_once(operands.title("SharedMatMulGrad"), [&] {
        const Workers workers = workers_of(context);
        std::string lines;
        if (wanted_.inputs > 0) {
          const CallShape shape = operands.shape([&](int i) { return wanted_.input[i]; });
          lines += "  " + explain_input_gradient<Storage<T>>(*context.isa, workers, shape) + "\n";
        }
        if (wanted_.kernels > 0) {
          const CallShape shape = operands.shape([&](int i) { return attributes_.trains(i); });
          lines += "  " + explain_kernel_gradient<Storage<T>>(*context.isa, workers, shape) + "\n";
        }
        return lines;
      });
    }
    OP_REQUIRES(
        ctx, backward(context, operands.kernel, segments, dw),
        absl::ResourceExhaustedError("SharedMatMulGrad: no memory for packed weights or dZ"));
  }

 private:
  static absl::Status check_like_output(const Operands<T>& operands, const char* name, int i,
                                        const TensorShape& shape) {
    const TensorShape& wanted = operands.output_shapes[i];
    if (shape == wanted) return absl::OkStatus();
    return invalid("SharedMatMulGrad: ", name, "[", i, "] has shape ", shape.DebugString(),
                   ", wanted the shape of output ", i, ": ", wanted.DebugString());
  }

  Attributes attributes_;
  Wanted wanted_;
};

#define SHARED_DENSE_REGISTER(T)                                                                  \
  REGISTER_KERNEL_BUILDER(                                                                        \
      Name("SharedDense>SharedMatMul").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"),     \
      SharedMatMulOp<T>);                                                                         \
  REGISTER_KERNEL_BUILDER(                                                                        \
      Name("SharedDense>SharedMatMulGrad").Device(tensorflow::DEVICE_CPU).TypeConstraint<T>("T"), \
      SharedMatMulGradOp<T>);
SHARED_DENSE_REGISTER(float)
SHARED_DENSE_REGISTER(double)
SHARED_DENSE_REGISTER(Eigen::bfloat16)
SHARED_DENSE_REGISTER(Eigen::half)
#undef SHARED_DENSE_REGISTER

}  // namespace
}  // namespace shared_dense
