// The operands of either op, read and checked the same way on every device.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "core/explain.h"
#include "core/shared_matmul.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tf/attributes.h"

namespace shared_dense {

using tensorflow::OpInputList;
using tensorflow::OpKernelContext;
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

}  // namespace shared_dense
