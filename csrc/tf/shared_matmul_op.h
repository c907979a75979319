// The op kernels, for any device: check everything, make the
// outputs, then have the device compute. A Device has static functions
//
//   ready()    whether it can compute here
//   zero()     fills a tensor with zeros
//   forward(), backward()
#pragma once

#include <vector>

#include "tensorflow/core/framework/op_kernel.h"
#include "tf/attributes.h"
#include "tf/operands.h"

namespace shared_dense {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpOutputList;

template <class Device, class T>
class SharedMatMulOp : public OpKernel {
 public:
  explicit SharedMatMulOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, attributes_.read("SharedMatMul", ctx));
    OP_REQUIRES_OK(ctx, read_pre_activations(ctx, attributes_, &wants_pre_activations_));
  }

  // The executor hands an "expensive" op to another thread while it runs the
  // small ones around it; waking that thread costs more than most calls take
  // (measured, 4 inputs of 1 row, 512 x 512: 50 us in a graph against 33), and
  // large calls spread over the intra-op threads by themselves.
  bool IsExpensive() override { return false; }

  void Compute(OpKernelContext* ctx) override {
    OP_REQUIRES_OK(ctx, Device::ready());
    Operands<T> operands;
    OP_REQUIRES_OK(ctx, operands.read(ctx, "SharedMatMul", attributes_));
    const int n = operands.inputs.size();
    OpOutputList outputs, pre_activations;
    OP_REQUIRES_OK(ctx, ctx->output_list("outputs", &outputs));
    OP_REQUIRES_OK(ctx, ctx->output_list("pre_activations", &pre_activations));
    std::vector<ForwardSegment<Storage<T>>> segments(n);
    for (int i = 0; i < n; ++i) {
      Tensor *y = nullptr, *z = nullptr;
      OP_REQUIRES_OK(ctx, outputs.allocate(i, operands.output_shapes[i], &y));
      if (wants_pre_activations_) {
        OP_REQUIRES_OK(ctx, pre_activations.allocate(i, operands.output_shapes[i], &z));
      }
      segments[i] = {operands.rows[i],
                     data_of<T>(operands.inputs[i]),
                     data_of<T>(y),
                     z == nullptr ? nullptr : data_of<T>(z),
                     operands.bias(attributes_.bias_of[i]),
                     attributes_.activations[i]};
    }
    OP_REQUIRES_OK(ctx, Device::forward(ctx, operands, segments));
  }

 private:
  Attributes attributes_;
  bool wants_pre_activations_ = false;
};

template <class Device, class T>
class SharedMatMulGradOp : public OpKernel {
 public:
  explicit SharedMatMulGradOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, attributes_.read("SharedMatMulGrad", ctx));
    OP_REQUIRES_OK(ctx, wanted_.read(ctx));
  }

  bool IsExpensive() override { return false; }  // as above

  void Compute(OpKernelContext* ctx) override {
    OP_REQUIRES_OK(ctx, Device::ready());
    Operands<T> operands;
    OP_REQUIRES_OK(ctx, operands.read(ctx, "SharedMatMulGrad", attributes_));
    const int n = operands.inputs.size();
    OpInputList grads, saved;
    OP_REQUIRES_OK(ctx, ctx->input_list("output_grads", &grads));
    OP_REQUIRES_OK(ctx, ctx->input_list("saved", &saved));
    OpOutputList dx, dkernel, dbias;
    OP_REQUIRES_OK(ctx, ctx->output_list("input_grads", &dx));
    OP_REQUIRES_OK(ctx, ctx->output_list("kernel_grads", &dkernel));
    OP_REQUIRES_OK(ctx, ctx->output_list("bias_grads", &dbias));

    std::vector<BackwardSegment<Storage<T>>> segments(n);
    for (int i = 0, next_dx = 0; i < n; ++i) {
      OP_REQUIRES_OK(ctx, operands.check_gradient(attributes_, i, shapes_of(grads), saved.size(),
                                                  shapes_of(saved)));
      BackwardSegment<Storage<T>>& segment = segments[i];
      segment.rows = operands.rows[i];
      segment.activation = attributes_.activations[i];
      segment.trains_kernel = attributes_.trains_kernel[i];
      segment.x = data_of<T>(operands.inputs[i]);
      segment.dy = data_of<T>(grads[i]);
      if (!attributes_.is_linear(i)) segment.saved = data_of<T>(saved[i]);
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
    std::vector<Tensor*> dbiases(wanted_.biases);
    std::vector<bool> used(wanted_.biases);
    for (int bias = 0; bias < wanted_.biases; ++bias) {
      OP_REQUIRES_OK(ctx, dbias.allocate(bias, operands.biases[bias].shape(), &dbiases[bias]));
    }
    for (int i = 0; i < n && wanted_.biases > 0; ++i) {
      const int bias = attributes_.bias_of[i];
      if (bias < 0) continue;
      segments[i].dbias = data_of<T>(dbiases[bias]);
      used[bias] = true;
    }
    // The core writes those that a segment names.
    for (int bias = 0; bias < wanted_.biases; ++bias) {
      if (!used[bias]) OP_REQUIRES_OK(ctx, Device::zero(ctx, dbiases[bias]));
    }
    OP_REQUIRES_OK(ctx, Device::backward(ctx, operands, attributes_, wanted_, segments, dw));
  }

 private:
  Attributes attributes_;
  Wanted wanted_;
};

// Registers both ops on a device for every dtype.
#define SHARED_DENSE_REGISTER_DTYPE(Device_, device_name, T)                           \
  REGISTER_KERNEL_BUILDER(                                                             \
      Name("SharedDense>SharedMatMul").Device(device_name).TypeConstraint<T>("T"),     \
      SharedMatMulOp<Device_, T>);                                                     \
  REGISTER_KERNEL_BUILDER(                                                             \
      Name("SharedDense>SharedMatMulGrad").Device(device_name).TypeConstraint<T>("T"), \
      SharedMatMulGradOp<Device_, T>);
#define SHARED_DENSE_REGISTER(Device_, device_name)                  \
  SHARED_DENSE_REGISTER_DTYPE(Device_, device_name, float)           \
  SHARED_DENSE_REGISTER_DTYPE(Device_, device_name, double)          \
  SHARED_DENSE_REGISTER_DTYPE(Device_, device_name, Eigen::bfloat16) \
  SHARED_DENSE_REGISTER_DTYPE(Device_, device_name, Eigen::half)

}  // namespace shared_dense
