// The operands of either op, read and checked the same way on every device.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "core/explain.h"
#include "core/shared_matmul.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tf/geometry.h"

namespace shared_dense {

using tensorflow::OpInputList;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

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

inline auto shapes_of(const OpInputList& list) {
  return [tensors = &list](int i) -> const TensorShape& { return (*tensors)[i].shape(); };
}

// The operands of either op, after their shapes were checked.
template <class T>
struct Operands : Geometry {
  OpInputList inputs, biases;
  const Tensor* kernel_tensor;
  Kernel<Storage<T>> kernel;

  absl::Status read(OpKernelContext* ctx, const char* op, const Attributes& attributes) {
    TF_RETURN_IF_ERROR(ctx->input_list("inputs", &inputs));
    TF_RETURN_IF_ERROR(ctx->input("kernel", &kernel_tensor));
    TF_RETURN_IF_ERROR(ctx->input_list("biases", &biases));
    TF_RETURN_IF_ERROR(Geometry::read(op, attributes, shapes_of(inputs), kernel_tensor->shape(),
                                      biases.size(), shapes_of(biases)));
    kernel = {data_of<T>(*kernel_tensor), in_features, units, attributes.transpose_kernel};
    return absl::OkStatus();
  }

  // "SharedMatMul float, rows 8+8, 1024 -> 64, kernel transposed"
  std::string title(const char* op) const {
    return absl::StrCat(op, " ", tensorflow::DataTypeString(kernel_tensor->dtype()), ", rows ",
                        absl::StrJoin(rows, "+"), ", ", kernel.in_features, " -> ", kernel.units,
                        kernel.transpose_kernel ? ", kernel transposed" : "");
  }

  // That of the inputs for which `takes_part(i)`.
  template <class TakesPart>
  CallShape shape(const TakesPart& takes_part) const {
    CallShape shape{{}, kernel.in_features, kernel.units, kernel.transpose_kernel};
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (takes_part(i)) shape.rows.push_back(rows[i]);
    }
    return shape;
  }

  const Storage<T>* bias(int index) const {
    return index < 0 ? nullptr : data_of<T>(biases[index]);
  }
};

}  // namespace shared_dense
