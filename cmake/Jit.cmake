# Both ops for functions that XLA compiles: a library of its own, as it links
# all of TensorFlow and needs headers that not every release ships (2.19 lacks
# some).
set(jit_sources
  csrc/jit/bounds.cc
  csrc/jit/dots.cc
  csrc/jit/frame.cc
  csrc/jit/handlers.cc
  csrc/jit/shared_matmul_jit.cc
  csrc/jit/shared_matmul_output_jit.cc
)
set(jit_includes "${TENSORFLOW_INCLUDE_DIR}"
  "${TENSORFLOW_INCLUDE_DIR}/external/highwayhash"
  "${TENSORFLOW_INCLUDE_DIR}/external/farmhash_archive/src")

# What the preprocessor finds, the compiler does.
set(flags ${jit_includes})
list(TRANSFORM flags PREPEND "-isystem")
list(TRANSFORM jit_sources PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/")
execute_process(
  COMMAND "${CMAKE_CXX_COMPILER}" -std=c++17 -M ${TENSORFLOW_DEFINITIONS}
    "-I${CMAKE_CURRENT_SOURCE_DIR}/csrc" ${flags} ${jit_sources}
  OUTPUT_QUIET ERROR_VARIABLE jit_problem RESULT_VARIABLE failed)
if(failed OR NOT EXISTS "${TENSORFLOW_LIBRARY_DIR}/libtensorflow_cc.so.2")
  string(REGEX MATCH "error: [^\n]*" jit_problem "${jit_problem}")
  message(STATUS "XLA: not built, TensorFlow ${TENSORFLOW_VERSION} lacks what it needs "
    "(${jit_problem})")
  return()
endif()

add_library(shared_dense_jit MODULE ${jit_sources} csrc/tf/attributes.cc)
set_target_properties(shared_dense_jit PROPERTIES
  PREFIX "" OUTPUT_NAME "_jit_tf${TENSORFLOW_MINOR}"
  CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
target_include_directories(shared_dense_jit SYSTEM PRIVATE ${jit_includes})
target_compile_options(shared_dense_jit PRIVATE ${TENSORFLOW_DEFINITIONS} -Wall)
target_link_libraries(shared_dense_jit PRIVATE shared_dense_core
  "-L${TENSORFLOW_LIBRARY_DIR}" -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2)
target_link_options(shared_dense_jit PRIVATE -Wl,--exclude-libs,libshared_dense_core.a)
install(TARGETS shared_dense_jit LIBRARY DESTINATION .)
