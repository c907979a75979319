# Both ops for functions that XLA compiles: a library of its own, as it links
# all of TensorFlow and needs headers that not every release ships (2.19 lacks
# some).
set(xla_sources
  csrc/xla/activation.cc
  csrc/xla/bounds.cc
  csrc/xla/dots.cc
  csrc/xla/frame.cc
  csrc/xla/handlers.cc
  csrc/xla/shared_matmul.cc
  csrc/xla/shared_matmul_output.cc
)
set(xla_includes "${TENSORFLOW_INCLUDE_DIR}"
  "${TENSORFLOW_INCLUDE_DIR}/external/highwayhash"
  "${TENSORFLOW_INCLUDE_DIR}/external/farmhash_archive/src")

# What the preprocessor finds, the compiler does.
set(flags ${xla_includes})
list(TRANSFORM flags PREPEND "-isystem")
list(TRANSFORM xla_sources PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/")
execute_process(
  COMMAND "${CMAKE_CXX_COMPILER}" -std=c++17 -M ${TENSORFLOW_DEFINITIONS}
    "-I${CMAKE_CURRENT_SOURCE_DIR}/csrc" ${flags} ${xla_sources}
  OUTPUT_QUIET ERROR_VARIABLE xla_problem RESULT_VARIABLE failed)
if(failed OR NOT EXISTS "${TENSORFLOW_LIBRARY_DIR}/libtensorflow_cc.so.2")
  string(REGEX MATCH "error: [^\n]*" xla_problem "${xla_problem}")
  message(STATUS "XLA: not built, TensorFlow ${TENSORFLOW_VERSION} lacks what it needs "
    "(${xla_problem})")
  return()
endif()

add_library(shared_dense_xla MODULE ${xla_sources} csrc/tf/attributes.cc)
set_target_properties(shared_dense_xla PROPERTIES
  PREFIX "" OUTPUT_NAME "_xla_tf${TENSORFLOW_MINOR}"
  CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
target_include_directories(shared_dense_xla SYSTEM PRIVATE ${xla_includes})
target_compile_options(shared_dense_xla PRIVATE ${TENSORFLOW_DEFINITIONS} -Wall)
target_link_libraries(shared_dense_xla PRIVATE
  "-L${TENSORFLOW_LIBRARY_DIR}" -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2)
shared_dense_link_core(shared_dense_xla)
install(TARGETS shared_dense_xla LIBRARY DESTINATION .)
