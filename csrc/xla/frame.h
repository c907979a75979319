// The buffers and attributes that compiled code hands to a handler, read as the
// arguments of the op and checked as the op's own kernels check theirs: a
// serialized graph can call a handler with anything.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "tf/geometry.h"
#include "xla/ffi/api/ffi.h"

namespace shared_dense {

// One of an op's lists of arguments or results.
struct Buffers {
  std::vector<TensorShape> shapes;
  std::vector<void*> data;

  auto shape() const {
    return [this](int i) -> const TensorShape& { return shapes[i]; };
  }
  template <class T>
  T* of(int i) const {
    return static_cast<T*>(data[i]);
  }
};

// Takes the buffers of a call in order, all of one type.
class Frame {
 public:
  Frame(const char* op, ::xla::ffi::RemainingArgs arguments, ::xla::ffi::RemainingRets results)
      : op_(op), arguments_(arguments), results_(results) {}

  // Whether there are arguments, and of a type the core knows.
  absl::Status begin();
  // The next `count` arguments, or results, which must have these shapes.
  absl::Status take(const char* name, std::size_t count, Buffers* list);
  absl::Status take_results(const char* name, const std::vector<TensorShape>& shapes,
                            Buffers* list);
  // Whether all were taken.
  absl::Status end() const;

  const char* op() const { return op_; }
  ::xla::ffi::DataType type() const { return type_; }
  std::size_t arguments_left() const { return arguments_.size() - next_argument_; }
  std::size_t results_left() const { return results_.size() - next_result_; }

 private:
  absl::Status read(const std::string& name, const ::xla::ffi::AnyBuffer& buffer,
                    Buffers* list) const;

  const char* const op_;
  const ::xla::ffi::RemainingArgs arguments_;
  const ::xla::ffi::RemainingRets results_;
  ::xla::ffi::DataType type_ = ::xla::ffi::DataType::INVALID;
  std::size_t next_argument_ = 0, next_result_ = 0;
};

using Numbers = absl::Span<const std::int32_t>;

struct ForwardCall {
  Attributes attributes;
  Geometry geometry;
  Buffers inputs, kernel, biases, outputs, pre_activations;

  // Attributes but for those of the result are as the op's; activations has a
  // number per input.
  absl::Status read(Frame* frame, Numbers activations, Numbers bias_of, bool transpose_kernel,
                    bool wants_pre_activations);
};

struct BackwardCall {
  Attributes attributes;
  Wanted wanted;
  Geometry geometry;
  Buffers output_grads, inputs, kernel, saved, input_grads, kernel_grads, bias_grads;

  absl::Status read(Frame* frame, Numbers activations, Numbers bias_of, Numbers trains_kernel,
                    Numbers needs_input, bool transpose_kernel, bool needs_kernel,
                    bool needs_biases);
};

}  // namespace shared_dense
