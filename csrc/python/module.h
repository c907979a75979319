// The parts of shared_dense._core; module.cc puts them together.
#pragma once

#include <pybind11/pybind11.h>

namespace shared_dense {

// forward and backward: products.cc.
void define_products(pybind11::module_& m);
// time_forward and time_backward, without Python, TensorFlow or fresh memory in
// the time: timing.cc.
void define_timing(pybind11::module_& m);

}  // namespace shared_dense
