// Attributes of the two ops, read and checked the same way by the shape
// functions and, because eager mode skips those, by the op kernels again.
//
// Graphs of before may hold short lists: one activation for all inputs, no flags
// where all train the kernel, no indices where biases are none, one, or one per
// input. They are decoded here and nowhere else; what comes after has one value
// per input.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/activation.h"
#include "core/types.h"
#include "tensorflow/core/platform/errors.h"

namespace shared_dense {

// An InvalidArgument; its message is made of these.
template <class... Words>
absl::Status invalid(const Words&... words) {
  return absl::InvalidArgumentError(absl::StrCat(words...));
}

struct Attributes {
  bool transpose_kernel = false;
  // One per input.
  std::vector<Activation> activations;
  std::vector<int> bias_of;  // the index of its bias, -1: none
  std::vector<bool> trains_kernel;

  // From an OpKernelConstruction or an InferenceContext.
  template <class Source>
  absl::Status read(const char* op, Source* source) {
    int inputs = 0, biases = 0;
    std::vector<std::string> names;
    TF_RETURN_IF_ERROR(source->GetAttr("N", &inputs));
    TF_RETURN_IF_ERROR(source->GetAttr("B", &biases));
    TF_RETURN_IF_ERROR(source->GetAttr("activations", &names));
    TF_RETURN_IF_ERROR(source->GetAttr("transpose_kernel", &transpose_kernel));
    TF_RETURN_IF_ERROR(source->GetAttr("bias_of", &bias_of));
    TF_RETURN_IF_ERROR(source->GetAttr("trains_kernel", &trains_kernel));
    TF_RETURN_IF_ERROR(set_activations(op, inputs, names));
    return complete(op, biases);
  }

  // The activations, by name or by numbers of the enum, which need not be any.
  absl::Status set_activations(const char* op, std::size_t inputs,
                               const std::vector<std::string>& names);
  absl::Status set_activations(const char* op, absl::Span<const std::int32_t> numbers);
  // Checks the other lists, and fills in those that are short.
  absl::Status complete(const char* op, std::size_t biases);

  std::size_t inputs() const { return activations.size(); }
  bool is_linear(std::size_t input) const { return activations[input] == Activation::kLinear; }
};

// Whether pre-activations are wanted: none, or one per input.
template <class Source>
absl::Status read_pre_activations(Source* source, const Attributes& attributes, bool* wanted) {
  int count = 0;
  TF_RETURN_IF_ERROR(source->GetAttr("num_pre_activations", &count));
  *wanted = count != 0;
  if (count == 0 || count == static_cast<int>(attributes.inputs())) return absl::OkStatus();
  return invalid("SharedMatMul: num_pre_activations must be 0 or the number of inputs (",
                 attributes.inputs(), "), got ", count);
}

// Which gradients are asked for.
struct Wanted {
  std::vector<bool> input;
  int inputs = 0, kernels = 0, biases = 0;

  template <class Source>
  absl::Status read(Source* source) {
    int all_inputs = 0, all_biases = 0;
    TF_RETURN_IF_ERROR(source->GetAttr("N", &all_inputs));
    TF_RETURN_IF_ERROR(source->GetAttr("B", &all_biases));
    TF_RETURN_IF_ERROR(source->GetAttr("needs_input_grad", &input));
    TF_RETURN_IF_ERROR(source->GetAttr("num_input_grads", &inputs));
    TF_RETURN_IF_ERROR(source->GetAttr("num_kernel_grads", &kernels));
    TF_RETURN_IF_ERROR(source->GetAttr("num_bias_grads", &biases));
    return check(all_inputs, all_biases);
  }
  absl::Status check(std::size_t all_inputs, std::size_t all_biases) const;

  // ", for 2 inputs and the kernel": of what has a plan.
  std::string text() const;
};

// Flags from numbers, which must be 0 or 1.
absl::Status read_flags(const char* op, const char* name, absl::Span<const std::int32_t> numbers,
                        std::vector<bool>* flags);

// Texts of the two mistakes people make most, one wording for both callers.
std::string width_error(const char* op, std::size_t index, const std::string& input,
                        const std::string& kernel, Index in_features, bool transpose_kernel);
std::string bias_error(const char* op, std::size_t index, const std::string& bias,
                       const std::string& kernel, Index units);

}  // namespace shared_dense
