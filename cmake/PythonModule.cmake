# The pybind11 module over the core.
find_package(Python3 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
if(NOT pybind11_DIR)
  execute_process(
    COMMAND "${Python3_EXECUTABLE}" -m pybind11 --cmakedir
    OUTPUT_VARIABLE pybind11_DIR OUTPUT_STRIP_TRAILING_WHITESPACE
    RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "pybind11 is missing: ${Python3_EXECUTABLE} -m pip install pybind11")
  endif()
endif()
set(PYBIND11_FINDPYTHON ON)
set(Python_EXECUTABLE "${Python3_EXECUTABLE}")
find_package(pybind11 2.12 CONFIG REQUIRED)

pybind11_add_module(shared_dense__core NO_EXTRAS
  csrc/python/module.cc csrc/python/products.cc csrc/python/timing.cc)
shared_dense_link_core(shared_dense__core)
set_target_properties(shared_dense__core PROPERTIES OUTPUT_NAME _core)
install(TARGETS shared_dense__core LIBRARY DESTINATION .)
