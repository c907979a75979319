#include "tf/attributes.h"

#include <algorithm>
#include <numeric>

#include "core/activation.h"

namespace shared_dense {

absl::Status Attributes::set_activations(const char* op, std::size_t inputs,
                                         const std::vector<std::string>& names) {
  if (names.size() != 1 && names.size() != inputs) {
    return invalid(op, ": activations must hold one name or one per input (", inputs, "), got ",
                   names.size());
  }
  for (const std::string& name : names) {
    Activation activation = Activation::kLinear;
    if (!activation_from_name(name, &activation)) {
      std::string known;
      for (int i = 0; i < kActivationCount; ++i) {
        known += (i == 0 ? "" : ", ") + std::string(activation_name(static_cast<Activation>(i)));
      }
      return invalid(op, ": unknown activation '", name, "'; known: ", known);
    }
    activations.push_back(activation);
  }
  activations.resize(inputs, activations[0]);
  return absl::OkStatus();
}

absl::Status Attributes::set_activations(const char* op, absl::Span<const std::int32_t> numbers) {
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (numbers[i] < 0 || numbers[i] >= kActivationCount) {
      return invalid(op, ": activations[", i, "] must be a number from 0 to ", kActivationCount - 1,
                     ", got ", numbers[i]);
    }
    activations.push_back(static_cast<Activation>(numbers[i]));
  }
  return absl::OkStatus();
}

absl::Status read_flags(const char* op, const char* name, absl::Span<const std::int32_t> numbers,
                        std::vector<bool>* flags) {
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (numbers[i] != 0 && numbers[i] != 1) {
      return invalid(op, ": ", name, "[", i, "] must be 0 or 1, got ", numbers[i]);
    }
    flags->push_back(numbers[i] == 1);
  }
  return absl::OkStatus();
}

absl::Status Attributes::complete(const char* op, std::size_t biases) {
  if (!trains_kernel.empty() && trains_kernel.size() != inputs()) {
    return invalid(op, ": trains_kernel must hold no flag or one per input (", inputs(), "), got ",
                   trains_kernel.size());
  }
  if (bias_of.empty() && biases > 1 && biases != inputs()) {
    return invalid(op, ": biases must be none, one, or one per input (", inputs(), "), got ",
                   biases, "; or bias_of must say which input uses which");
  }
  if (!bias_of.empty() && bias_of.size() != inputs()) {
    return invalid(op, ": bias_of must hold no index or one per input (", inputs(), "), got ",
                   bias_of.size());
  }
  for (std::size_t i = 0; i < bias_of.size(); ++i) {
    if (bias_of[i] >= -1 && bias_of[i] < static_cast<int>(biases)) continue;
    return invalid(op, ": bias_of[", i, "] must be the index of one of the ", biases,
                   " biases, or -1 for none, got ", bias_of[i]);
  }
  if (trains_kernel.empty()) trains_kernel.assign(inputs(), true);
  if (bias_of.empty()) {
    bias_of.assign(inputs(), static_cast<int>(biases) - 1);  // none, or one for all
    if (biases > 1) std::iota(bias_of.begin(), bias_of.end(), 0);
  }
  return absl::OkStatus();
}

absl::Status Wanted::check(std::size_t all_inputs, std::size_t all_biases) const {
  if (input.size() != all_inputs || std::count(input.begin(), input.end(), true) != inputs) {
    return invalid("SharedMatMulGrad: needs_input_grad must hold one flag per input (", all_inputs,
                   "), num_input_grads of them true, got ", input.size(),
                   " flags and num_input_grads = ", inputs);
  }
  if (kernels > 1 || (biases != 0 && biases != static_cast<int>(all_biases))) {
    return invalid("SharedMatMulGrad: num_kernel_grads must be 0 or 1, got ", kernels,
                   ", and num_bias_grads 0 or the number of biases (", all_biases, "), got ",
                   biases);
  }
  return absl::OkStatus();
}

std::string Wanted::text() const {
  if (inputs == 0 && kernels == 0) return "";
  std::string text = ", for ";
  if (inputs > 0) text += std::to_string(inputs) + (inputs == 1 ? " input" : " inputs");
  if (inputs > 0 && kernels > 0) text += " and ";
  if (kernels > 0) text += "the kernel";
  return text;
}

std::string width_error(const char* op, std::size_t index, const std::string& input,
                        const std::string& kernel, Index in_features, bool transpose_kernel) {
  return std::string(op) + ": inputs[" + std::to_string(index) + "] has shape " + input +
         ", but the kernel " + kernel + (transpose_kernel ? " (transposed)" : "") +
         " takes inputs whose last axis is " + std::to_string(in_features) +
         ". One kernel is shared among inputs of one width.";
}

std::string bias_error(const char* op, std::size_t index, const std::string& bias,
                       const std::string& kernel, Index units) {
  return std::string(op) + ": biases[" + std::to_string(index) + "] has shape " + bias +
         ", but the kernel " + kernel + " takes biases of shape [" +
         (units < 0 ? std::string("units") : std::to_string(units)) + "].";
}

}  // namespace shared_dense
