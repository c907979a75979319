#include "tf/attributes.h"

#include <algorithm>

#include "core/activation.h"

namespace shared_dense {

absl::Status Attributes::check(const char* op, std::size_t inputs, std::size_t biases) const {
  if (names.size() != 1 && names.size() != inputs) {
    return invalid(op, ": activations must hold one name or one per input (", inputs, "), got ",
                   names.size());
  }
  for (const std::string& name : names) {
    Activation ignored;
    if (activation_from_name(name, &ignored)) continue;
    std::string known;
    for (int i = 0; i < kActivationCount; ++i) {
      known += (i == 0 ? "" : ", ") + std::string(activation_name(static_cast<Activation>(i)));
    }
    return invalid(op, ": unknown activation '", name, "'; known: ", known);
  }
  if (!trains_kernel.empty() && trains_kernel.size() != inputs) {
    return invalid(op, ": trains_kernel must hold no flag or one per input (", inputs, "), got ",
                   trains_kernel.size());
  }
  if (bias_of.empty() && biases > 1 && biases != inputs) {
    return invalid(op, ": biases must be none, one, or one per input (", inputs, "), got ", biases,
                   "; or bias_of must say which input uses which");
  }
  if (!bias_of.empty() && bias_of.size() != inputs) {
    return invalid(op, ": bias_of must hold no index or one per input (", inputs, "), got ",
                   bias_of.size());
  }
  for (std::size_t i = 0; i < bias_of.size(); ++i) {
    if (bias_of[i] >= -1 && bias_of[i] < static_cast<int>(biases)) continue;
    return invalid(op, ": bias_of[", i, "] must be the index of one of the ", biases,
                   " biases, or -1 for none, got ", bias_of[i]);
  }
  return absl::OkStatus();
}

std::vector<Activation> Attributes::activations(std::size_t inputs) const {
  std::vector<Activation> list(inputs, Activation::kLinear);
  for (std::size_t i = 0; i < inputs; ++i) {
    // check() has seen the names: the result cannot be false.
    (void)activation_from_name(names[names.size() == 1 ? 0 : i], &list[i]);
  }
  return list;
}

int Attributes::bias_index(std::size_t input, std::size_t biases) const {
  if (!bias_of.empty()) return bias_of[input];
  return biases > 1 ? static_cast<int>(input) : static_cast<int>(biases) - 1;
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

std::string width_error(const char* op, std::size_t index, const std::string& input,
                        const std::string& kernel, Index in_features, bool transposed) {
  return std::string(op) + ": inputs[" + std::to_string(index) + "] has shape " + input +
         ", but the kernel " + kernel + (transposed ? " (transposed)" : "") +
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
