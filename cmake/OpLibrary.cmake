# The TensorFlow op library. Its file name carries the TensorFlow minor version
# it runs on: loading it into another one crashes or fails obscurely, so the
# loader compares before it opens the file.
add_library(shared_dense_ops MODULE
  csrc/tf/attributes.cc
  csrc/tf/shared_matmul.cc
  csrc/tf/shared_matmul_ops.cc
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
# CUDA's runtime before TensorFlow, whose own stubs of it would else be taken.
if(shared_dense_cuda)
  target_sources(shared_dense_ops PRIVATE csrc/tf/shared_matmul_gpu.cc)
  target_link_libraries(shared_dense_ops PRIVATE shared_dense_cuda)
  target_link_options(shared_dense_ops PRIVATE
    "-Wl,--exclude-libs,libshared_dense_cuda.a:libcudart_static.a:libculibos.a")
endif()
target_link_libraries(shared_dense_ops PRIVATE shared_dense_core
  "-L${TENSORFLOW_LIBRARY_DIR}" -l:libtensorflow_framework.so.2)
target_link_options(shared_dense_ops PRIVATE -Wl,--exclude-libs,libshared_dense_core.a)
install(TARGETS shared_dense_ops LIBRARY DESTINATION .)
