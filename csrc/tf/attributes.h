// Attributes of the two ops, read and checked the same way by the shape
// functions and, because eager mode skips those, by the kernels again.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/activation.h"
#include "core/types.h"
#include "tensorflow/core/platform/errors.h"

namespace shared_dense {

// An InvalidArgument from the pieces of its message.
template <class... Pieces>
absl::Status invalid(const Pieces&... pieces) {
  return absl::InvalidArgumentError(absl::StrCat(pieces...));
}

struct Attributes {
  std::vector<Activation> activations;  // one for all inputs, or one per input
  bool transpose_kernel = false;
  std::vector<int> bias_of;         // per input the index of its bias, -1: none
  std::vector<bool> trains_kernel;  // per input; none: all do

  // From an OpKernelConstruction or an InferenceContext.
  template <class Source>
  absl::Status read(Source* source) {
    std::vector<std::string> names;
    TF_RETURN_IF_ERROR(source->GetAttr("activations", &names));
    set_activations(names);
    TF_RETURN_IF_ERROR(source->GetAttr("transpose_kernel", &transpose_kernel));
    TF_RETURN_IF_ERROR(source->GetAttr("bias_of", &bias_of));
    return source->GetAttr("trains_kernel", &trains_kernel);
  }
  // From numbers of the enum, which need not be any.
  absl::Status set_activations(const char* op, absl::Span<const std::int32_t> numbers);

  absl::Status check(const char* op, std::size_t inputs, std::size_t biases) const;
  // What holds for an input; call after check().
  Activation activation(std::size_t input) const {
    return activations[activations.size() == 1 ? 0 : input];
  }
  int bias_index(std::size_t input, std::size_t biases) const;
  bool trains(std::size_t input) const { return trains_kernel.empty() || trains_kernel[input]; }

 private:
  void set_activations(const std::vector<std::string>& names);

  std::optional<std::string> unknown_;  // a name that is no activation's
};

// Which gradients are asked for.
struct Wanted {
  std::vector<bool> input;
  int inputs = 0, kernels = 0, biases = 0;

  template <class Source>
  absl::Status read(Source* source) {
    TF_RETURN_IF_ERROR(source->GetAttr("needs_input_grad", &input));
    TF_RETURN_IF_ERROR(source->GetAttr("num_input_grads", &inputs));
    TF_RETURN_IF_ERROR(source->GetAttr("num_kernel_grads", &kernels));
    return source->GetAttr("num_bias_grads", &biases);
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
                        const std::string& kernel, Index in_features, bool transposed);
std::string bias_error(const char* op, std::size_t index, const std::string& bias,
                       const std::string& kernel, Index units);

}  // namespace shared_dense
