# The TensorFlow op library. Its file name carries the TensorFlow minor version
# it runs on: loading it into another one crashes or fails obscurely, so the
# loader compares before it opens the file.
add_library(shared_dense_ops MODULE
  csrc/tf/attributes.cc
  csrc/tf/shared_matmul.cc
  csrc/tf/shared_matmul_ops.cc
  csrc/tf/shared_matmul_output.cc
  csrc/tf/verbose.cc
)
set_target_properties(shared_dense_ops PROPERTIES
  PREFIX "" OUTPUT_NAME "_ops_tf${TENSORFLOW_MINOR}"
  # TensorFlow's headers define nothing we want others to see.
  CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
target_include_directories(shared_dense_ops SYSTEM PRIVATE "${TENSORFLOW_INCLUDE_DIR}")
target_compile_options(shared_dense_ops PRIVATE ${TENSORFLOW_DEFINITIONS} -Wall)
# As libraries, not as link options: those come before the objects, and the
# linker then drops the dependency.
target_link_libraries(shared_dense_ops PRIVATE
  "-L${TENSORFLOW_LIBRARY_DIR}" -l:libtensorflow_framework.so.2)
shared_dense_link_core(shared_dense_ops)
install(TARGETS shared_dense_ops LIBRARY DESTINATION .)

# GPU kernels of the same ops, in a library that is loaded where asked for: it
# registers them when it is opened, and TensorFlow then prefers them.
if(shared_dense_cuda)
  add_library(shared_dense_gpu MODULE
    csrc/tf/attributes.cc
    csrc/tf/shared_matmul_gpu.cc
    csrc/tf/verbose.cc
  )
  set_target_properties(shared_dense_gpu PROPERTIES
    PREFIX "" OUTPUT_NAME "_gpu_tf${TENSORFLOW_MINOR}"
    CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  target_include_directories(shared_dense_gpu SYSTEM PRIVATE "${TENSORFLOW_INCLUDE_DIR}")
  target_compile_options(shared_dense_gpu PRIVATE ${TENSORFLOW_DEFINITIONS} -Wall)
  # CUDA's runtime by name, before TensorFlow: CMake puts what a static library
  # needs last, and TensorFlow's stubs of an older runtime would be taken. They
  # are missing from tensorflow-cpu, too.
  target_link_libraries(shared_dense_gpu PRIVATE shared_dense_cuda ${shared_dense_cudart}
    "-L${TENSORFLOW_LIBRARY_DIR}" -l:libtensorflow_framework.so.2)
  target_link_options(shared_dense_gpu PRIVATE
    "-Wl,--exclude-libs,libshared_dense_cuda.a:libcudart_static.a:libculibos.a")
  shared_dense_link_core(shared_dense_gpu)
  install(TARGETS shared_dense_gpu LIBRARY DESTINATION .)
endif()
