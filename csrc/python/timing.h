// Timing of the core without Python, TensorFlow or fresh memory in the time.
#pragma once

#include <pybind11/pybind11.h>

namespace shared_dense {

// Adds time_forward and time_backward to the module.
void define_timing(pybind11::module_& m);

}  // namespace shared_dense
