#include "xla/frame.h"

#include <algorithm>
#include <sstream>

#include "absl/strings/str_join.h"

namespace shared_dense {
namespace {

namespace ffi = ::xla::ffi;

std::string text(ffi::DataType type) {
  std::ostringstream text;
  text << type;
  return text.str();
}

bool known(ffi::DataType type) {
  return type == ffi::DataType::F32 || type == ffi::DataType::F64 || type == ffi::DataType::BF16 ||
         type == ffi::DataType::F16;
}

}  // namespace

absl::Status Frame::begin() {
  if (arguments_.size() == 0) return invalid(op_, ": the call has no arguments");
  const auto first = arguments_.get<ffi::AnyBuffer>(0);
  if (!first.has_value()) return invalid(op_, ": the first argument is no buffer");
  type_ = first->element_type();
  if (known(type_)) return absl::OkStatus();
  return invalid(op_, ": the first argument has dtype ", text(type_),
                 ", wanted one of F32, F64, BF16 and F16");
}

absl::Status Frame::read(const std::string& name, const ffi::AnyBuffer& buffer,
                         Buffers* list) const {
  const auto sizes = buffer.dimensions();
  if (buffer.element_type() != type_) {
    return invalid(op_, ": ", name, " has dtype ", text(buffer.element_type()),
                   ", wanted that of the first argument: ", text(type_));
  }
  TensorShape shape;
  const absl::Status valid = TensorShape::BuildTensorShape({sizes.begin(), sizes.size()}, &shape);
  if (!valid.ok()) {
    return invalid(op_, ": ", name, " has shape [", absl::StrJoin(sizes, ","),
                   "], wanted one of a tensor: ", valid.message());
  }
  // An empty tensor need not have any.
  if (buffer.untyped_data() == nullptr && shape.num_elements() > 0) {
    return invalid(op_, ": ", name, " has shape ", shape.DebugString(), " and no memory");
  }
  list->shapes.push_back(shape);
  list->data.push_back(buffer.untyped_data());
  return absl::OkStatus();
}

absl::Status Frame::take(const char* name, std::size_t count, Buffers* list) {
  if (count > arguments_left()) {
    return invalid(op_, ": ", name, " must be ", count, " of the arguments, got ", arguments_left(),
                   ": the call has ", arguments_.size());
  }
  for (std::size_t i = 0; i < count; ++i) {
    const auto buffer = arguments_.get<ffi::AnyBuffer>(next_argument_++);
    const std::string title = absl::StrCat(name, "[", i, "]");
    if (!buffer.has_value()) return invalid(op_, ": ", title, " is no buffer");
    TF_RETURN_IF_ERROR(read(title, *buffer, list));
  }
  return absl::OkStatus();
}

absl::Status Frame::take_results(const char* name, const std::vector<TensorShape>& shapes,
                                 Buffers* list) {
  if (shapes.size() > results_left()) {
    return invalid(op_, ": ", name, " must be ", shapes.size(), " of the results, got ",
                   results_left(), ": the call has ", results_.size());
  }
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    auto buffer = results_.get<ffi::AnyBuffer>(next_result_++);
    const std::string title = absl::StrCat(name, "[", i, "]");
    if (!buffer.has_value()) return invalid(op_, ": ", title, " is no buffer");
    TF_RETURN_IF_ERROR(read(title, **buffer, list));
    if (list->shapes[i] == shapes[i]) continue;
    return invalid(op_, ": ", title, " has shape ", list->shapes[i].DebugString(), ", wanted ",
                   shapes[i].DebugString());
  }
  return absl::OkStatus();
}

absl::Status Frame::end() const {
  if (arguments_left() == 0 && results_left() == 0) return absl::OkStatus();
  return invalid(op_, ": the call has ", arguments_.size(), " arguments and ", results_.size(),
                 " results, wanted ", next_argument_, " and ", next_result_);
}

absl::Status ForwardCall::read(Frame* frame, Numbers activations, Numbers bias_of,
                               bool transpose_kernel, bool wants_pre_activations) {
  const char* const op = frame->op();
  const std::size_t n = activations.size();
  if (n == 0) return invalid(op, ": activations must hold a number per input, got none");
  TF_RETURN_IF_ERROR(attributes.set_activations(op, activations));
  attributes.bias_of.assign(bias_of.begin(), bias_of.end());
  attributes.transpose_kernel = transpose_kernel;
  TF_RETURN_IF_ERROR(frame->begin());
  TF_RETURN_IF_ERROR(frame->take("inputs", n, &inputs));
  TF_RETURN_IF_ERROR(frame->take("kernel", 1, &kernel));
  const std::size_t b = frame->arguments_left();
  TF_RETURN_IF_ERROR(frame->take("biases", b, &biases));
  TF_RETURN_IF_ERROR(attributes.complete(op, b));
  TF_RETURN_IF_ERROR(
      geometry.read(op, attributes, inputs.shape(), kernel.shapes[0], b, biases.shape()));
  TF_RETURN_IF_ERROR(frame->take_results("outputs", geometry.output_shapes, &outputs));
  if (wants_pre_activations) {
    TF_RETURN_IF_ERROR(
        frame->take_results("pre_activations", geometry.output_shapes, &pre_activations));
  }
  return frame->end();
}

absl::Status BackwardCall::read(Frame* frame, Numbers activations, Numbers bias_of,
                                Numbers trains_kernel, Numbers needs_input, bool transpose_kernel,
                                bool needs_kernel, bool needs_biases) {
  const char* const op = frame->op();
  const std::size_t n = activations.size();
  if (n == 0) return invalid(op, ": activations must hold a number per input, got none");
  TF_RETURN_IF_ERROR(attributes.set_activations(op, activations));
  TF_RETURN_IF_ERROR(read_flags(op, "trains_kernel", trains_kernel, &attributes.trains_kernel));
  attributes.transpose_kernel = transpose_kernel;
  TF_RETURN_IF_ERROR(read_flags(op, "needs_input", needs_input, &wanted.input));
  wanted.inputs = std::count(wanted.input.begin(), wanted.input.end(), true);
  wanted.kernels = needs_kernel;

  // The biases themselves are not read. Those that want a gradient show in the
  // results, others in bias_of only.
  std::size_t biases = 0;
  if (needs_biases) {
    const std::size_t before = wanted.inputs + wanted.kernels;
    biases = std::max(frame->results_left(), before) - before;
    wanted.biases = biases;
  } else if (!bias_of.empty()) {
    biases = std::size_t(std::max(*std::max_element(bias_of.begin(), bias_of.end()), -1) + 1L);
  }
  attributes.bias_of.assign(bias_of.begin(), bias_of.end());
  TF_RETURN_IF_ERROR(attributes.complete(op, biases));
  if (!needs_biases) {
    attributes.bias_of.assign(n, -1);
    biases = 0;
  }
  TF_RETURN_IF_ERROR(wanted.check(n, biases));

  TF_RETURN_IF_ERROR(frame->begin());
  TF_RETURN_IF_ERROR(frame->take("output_grads", n, &output_grads));
  TF_RETURN_IF_ERROR(frame->take("inputs", n, &inputs));
  TF_RETURN_IF_ERROR(frame->take("kernel", 1, &kernel));
  // Read by inputs that are not linear, and either all have one or none.
  TF_RETURN_IF_ERROR(frame->take("saved", frame->arguments_left(), &saved));
  const TensorShape& shape = kernel.shapes[0];
  const TensorShape bias({shape.dims() == 2 ? shape.dim_size(transpose_kernel ? 0 : 1) : 0});
  TF_RETURN_IF_ERROR(geometry.read(op, attributes, inputs.shape(), shape, biases,
                                   [&](int) -> const TensorShape& { return bias; }));
  std::vector<TensorShape> wanted_inputs;
  bool saves = false;
  for (std::size_t i = 0; i < n; ++i) {
    TF_RETURN_IF_ERROR(geometry.check_gradient(attributes, i, output_grads.shape(),
                                               saved.shapes.size(), saved.shape()));
    saves |= !attributes.is_linear(i);
    if (wanted.input[i]) wanted_inputs.push_back(inputs.shapes[i]);
  }
  if (!saves && !saved.shapes.empty()) {
    return invalid(op, ": saved must be empty where all activations are linear, got ",
                   saved.shapes.size());
  }
  TF_RETURN_IF_ERROR(frame->take_results("input_grads", wanted_inputs, &input_grads));
  TF_RETURN_IF_ERROR(frame->take_results(
      "kernel_grads", std::vector<TensorShape>(wanted.kernels, shape), &kernel_grads));
  TF_RETURN_IF_ERROR(frame->take_results(
      "bias_grads", std::vector<TensorShape>(wanted.biases, bias), &bias_grads));
  return frame->end();
}

}  // namespace shared_dense
