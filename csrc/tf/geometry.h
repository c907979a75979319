// The sizes of a call, checked the same way by every op kernel.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "core/types.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "tf/attributes.h"

namespace shared_dense {

using tensorflow::TensorShape;

struct Geometry {
  Index in_features = 0, units = 0;
  std::vector<Index> rows;  // per input
  std::vector<TensorShape> output_shapes;

  // input(i) and bias(i) are the shapes of the lists' entries.
  template <class Input, class Bias>
  absl::Status read(const char* op, const Attributes& attributes, const Input& input,
                    const TensorShape& kernel, int biases, const Bias& bias) {
    if (kernel.dims() != 2) {
      return invalid(op, ": kernel must have rank 2, got shape ", kernel.DebugString());
    }
    const bool transpose_kernel = attributes.transpose_kernel;
    in_features = kernel.dim_size(transpose_kernel ? 1 : 0);
    units = kernel.dim_size(transpose_kernel ? 0 : 1);
    Index stacked = 0;
    for (std::size_t i = 0; i < attributes.inputs(); ++i) {
      const TensorShape& shape = input(i);
      if (shape.dims() < 1) {
        return invalid(op, ": inputs[", i, "] must have rank >= 1, got a scalar");
      }
      if (shape.dim_size(shape.dims() - 1) != in_features) {
        return invalid(width_error(op, i, shape.DebugString(), kernel.DebugString(), in_features,
                                   transpose_kernel));
      }
      rows.push_back(row_count(shape));
      // Rows of no bytes may be that many.
      if (rows[i] > std::numeric_limits<Index>::max() - stacked) {
        return invalid(op, ": inputs[", i, "] has shape ", shape.DebugString(), ", and ", stacked,
                       " rows come before: together they must be less than 2^63");
      }
      stacked += rows[i];
      TensorShape output = shape;
      // Fails, where set_dim would abort, when the sizes multiply past int64.
      TF_RETURN_IF_ERROR(output.SetDimWithStatus(output.dims() - 1, units));
      output_shapes.push_back(output);
    }
    for (int i = 0; i < biases; ++i) {
      const TensorShape& shape = bias(i);
      if (shape.dims() != 1 || shape.dim_size(0) != units) {
        return invalid(bias_error(op, i, shape.DebugString(), kernel.DebugString(), units));
      }
    }
    return absl::OkStatus();
  }

  // What the gradient of input i reads: grad(), and saved() unless it is linear.
  template <class Grad, class Saved>
  absl::Status check_gradient(const Attributes& attributes, int i, const Grad& grad, int num_saved,
                              const Saved& saved) const {
    TF_RETURN_IF_ERROR(check_like_output("output_grads", i, grad(i)));
    if (attributes.is_linear(i)) return absl::OkStatus();
    if (num_saved != static_cast<int>(rows.size())) {
      return invalid("SharedMatMulGrad: saved must hold one tensor per input (", rows.size(),
                     ") unless all activations are linear, got ", num_saved);
    }
    return check_like_output("saved", i, saved(i));
  }

 private:
  // All axes but the last. Not num_elements / width: the width may be 0.
  static Index row_count(const TensorShape& shape) {
    Index rows = 1;
    for (int axis = 0; axis + 1 < shape.dims(); ++axis) rows *= shape.dim_size(axis);
    return rows;
  }

  absl::Status check_like_output(const char* name, int i, const TensorShape& shape) const {
    if (shape == output_shapes[i]) return absl::OkStatus();
    return invalid("SharedMatMulGrad: ", name, "[", i, "] has shape ", shape.DebugString(),
                   ", wanted the shape of output ", i, ": ", output_shapes[i].DebugString());
  }
};

}  // namespace shared_dense
