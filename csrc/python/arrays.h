// NumPy's arrays as operands of the core: what the files of this module share.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "core/shared_matmul.h"

namespace pybind11::detail {

// NumPy has binary16; of bfloat16 it gets the bits.
template <>
struct npy_format_descriptor<shared_dense::Half> {
  static constexpr auto name = const_name("float16");
  static pybind11::dtype dtype() { return pybind11::dtype("float16"); }
};
template <>
struct npy_format_descriptor<shared_dense::BFloat16> {
  static constexpr auto name = const_name("uint16");
  static pybind11::dtype dtype() { return pybind11::dtype("uint16"); }
};

}  // namespace pybind11::detail

namespace shared_dense {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style>;
template <class T>
using Arrays = std::vector<Array<T>>;

[[noreturn]] inline void fail(const std::string& message) { throw std::invalid_argument(message); }

template <class T>
Kernel<T> kernel_of(const Array<T>& kernel, bool transpose_kernel) {
  if (kernel.ndim() != 2) fail("kernel must have rank 2");
  return {kernel.data(), kernel.shape(transpose_kernel ? 1 : 0),
          kernel.shape(transpose_kernel ? 0 : 1), transpose_kernel};
}

template <class T>
Index rows_of(const Array<T>& x, Index columns, const char* name) {
  if (x.ndim() != 2 || x.shape(1) != columns) {
    fail(std::string(name) + " must have shape [rows, " + std::to_string(columns) + "]");
  }
  return x.shape(0);
}

// By name, or the one in use.
inline const Isa* isa_of(const std::string& name) {
  if (name.empty()) {
    if (active_isa() == nullptr) fail(isa_error());
    return active_isa();
  }
  const Isa* isa = find_isa(name);
  if (isa == nullptr || !isa->supported()) fail("no such instruction set here: " + name);
  return isa;
}

}  // namespace shared_dense
