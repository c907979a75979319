# The products on CUDA devices: objects that nvcc makes.
# nvcc is run directly: the toolkit of pip is not one that CMake's CUDA language
# finds whole. Sets shared_dense_cuda (the target exists) and its reason if not.
set(SHARED_DENSE_CUDA "auto" CACHE STRING
  "CUDA kernels: on, off, or auto (on where an nvcc is found)")
set_property(CACHE SHARED_DENSE_CUDA PROPERTY STRINGS auto on off)
string(TOLOWER "${SHARED_DENSE_CUDA}" wanted)
if(NOT wanted MATCHES "^(auto|on|off)$")
  message(FATAL_ERROR "SHARED_DENSE_CUDA is '${SHARED_DENSE_CUDA}'; it must be auto, on or off")
endif()
set(cuda_architectures 80 90)  # and PTX of the last, for later ones

set(shared_dense_cuda FALSE)
if(wanted STREQUAL "off")
  message(STATUS "CUDA: off")
  return()
endif()

# Beside the build's Python where pip puts it, then as an installed toolkit.
execute_process(
  COMMAND "${Python3_EXECUTABLE}" -c
    "import sysconfig; print(sysconfig.get_path('purelib') + '/nvidia/cu13/bin')"
  OUTPUT_VARIABLE pip_cuda OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
find_program(SHARED_DENSE_NVCC nvcc
  HINTS ENV CUDA_HOME ENV CUDA_PATH "${pip_cuda}" PATHS /usr/local/cuda PATH_SUFFIXES bin)
set(problem "")
if(NOT SHARED_DENSE_NVCC)
  set(problem "no nvcc (a CUDA toolkit, or pip install nvidia-cuda-nvcc nvidia-cuda-runtime)")
else()
  # What nvcc calls its own place: it may have been found as a script or a link.
  execute_process(COMMAND "${SHARED_DENSE_NVCC}" --dryrun -x cu -c /dev/null
    OUTPUT_VARIABLE dryrun ERROR_VARIABLE dryrun)
  execute_process(COMMAND "${SHARED_DENSE_NVCC}" --version OUTPUT_VARIABLE version ERROR_QUIET)
  string(REGEX MATCH "TOP=([^\n]+)" found "${dryrun}")
  set(cuda_top "${CMAKE_MATCH_1}")
  string(REGEX MATCH "release ([0-9.]+)" found "${version}")
  set(cuda_version "${CMAKE_MATCH_1}")
  file(GLOB cudart "${cuda_top}/lib64/libcudart_static.a" "${cuda_top}/lib/libcudart_static.a"
    "${cuda_top}/targets/*/lib/libcudart_static.a")
  if(NOT cudart)
    set(problem "${SHARED_DENSE_NVCC} has no libcudart_static.a (pip install nvidia-cuda-runtime)")
  elseif(cuda_version VERSION_LESS 12.0)
    set(problem "${SHARED_DENSE_NVCC} is CUDA ${cuda_version}; 12.0 or later is needed")
  endif()
endif()
if(problem)
  if(wanted STREQUAL "on")
    message(FATAL_ERROR "SHARED_DENSE_CUDA=on, but there is ${problem}")
  endif()
  message(STATUS "CUDA: not built, ${problem}")
  return()
endif()
message(STATUS "CUDA ${cuda_version}: ${SHARED_DENSE_NVCC}")
list(GET cudart 0 cudart)

set(cuda_flags -std=c++17 -O3 -DNDEBUG --expt-relaxed-constexpr -Xcompiler=-fPIC,-fvisibility=hidden
  "-I${CMAKE_CURRENT_SOURCE_DIR}/csrc" -ccbin "${CMAKE_CXX_COMPILER}")
foreach(architecture ${cuda_architectures})
  list(APPEND cuda_targets -gencode "arch=compute_${architecture},code=sm_${architecture}")
endforeach()
list(GET cuda_architectures -1 newest)
list(APPEND cuda_targets -gencode "arch=compute_${newest},code=compute_${newest}")
# wgmma is in the code of that one architecture only: asked for at run time.
set(cuda_hopper_targets -gencode "arch=compute_90a,code=sm_90a")

set(cuda_objects "")
foreach(name elementwise hopper_bfloat16 hopper_half product_bfloat16 product_double product_float
    product_half product_tf32 shared_matmul)
  set(targets ${cuda_targets})
  if(name MATCHES "^hopper_")
    set(targets ${cuda_hopper_targets})
  endif()
  set(source "${CMAKE_CURRENT_SOURCE_DIR}/csrc/cuda/${name}.cu")
  set(object "${CMAKE_CURRENT_BINARY_DIR}/cuda/${name}.o")
  add_custom_command(OUTPUT "${object}"
    COMMAND "${CMAKE_COMMAND}" -E make_directory "${CMAKE_CURRENT_BINARY_DIR}/cuda"
    COMMAND "${SHARED_DENSE_NVCC}" ${cuda_flags} ${targets} -MD -MF "${object}.d" -c "${source}" -o "${object}"
    DEPENDS "${source}" DEPFILE "${object}.d" COMMENT "nvcc ${name}.cu" VERBATIM)
  list(APPEND cuda_objects "${object}")
endforeach()
set_source_files_properties(${cuda_objects} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
add_library(shared_dense_cuda STATIC csrc/cuda/explain.cc csrc/cuda/plan.cc ${cuda_objects})
set_target_properties(shared_dense_cuda PROPERTIES LINKER_LANGUAGE CXX)
target_include_directories(shared_dense_cuda PUBLIC csrc)
target_compile_options(shared_dense_cuda PRIVATE -Wall -Wextra -fvisibility=hidden)
# The runtime, as part of us: its driver is looked for at the first call, so the
# library loads where there is none. culibos is a part of cudart from 13.2 on.
get_filename_component(cudart_folder "${cudart}" DIRECTORY)
file(GLOB culibos "${cudart_folder}/libculibos.a")
set(shared_dense_cudart "${cudart}" ${culibos} ${CMAKE_DL_LIBS} rt Threads::Threads)
target_link_libraries(shared_dense_cuda PUBLIC ${shared_dense_cudart})
set(shared_dense_cuda TRUE)
