# The framework-free core. One object per instruction set; its flags go on that
# file alone, so nothing else can use an instruction the machine may lack.
find_package(Threads REQUIRED)

add_library(shared_dense_core STATIC
  csrc/core/activation.cc
  csrc/core/column_sums.cc
  csrc/core/explain.cc
  csrc/core/isa/dispatch.cc
  csrc/core/isa/generic.cc
  csrc/core/parallel.cc
  csrc/core/plan.cc
  csrc/core/pool_use.cc
  csrc/core/reference.cc
  csrc/core/rows_product.cc
  csrc/core/shared_matmul.cc
  csrc/core/sum_product.cc
)
set(shared_dense_isas generic)

# Bits are part of the contract: a multiply-add is fused where the source says
# fma() and nowhere else. errno from the C math functions is not wanted.
set(isa_flags -ffp-contract=off -fno-math-errno)
set_source_files_properties(csrc/core/isa/generic.cc PROPERTIES COMPILE_OPTIONS
  "${isa_flags}")

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_sources(shared_dense_core PRIVATE
    csrc/core/isa/avx2.cc
    csrc/core/isa/avx512.cc
  )
  set_source_files_properties(csrc/core/isa/avx2.cc PROPERTIES COMPILE_OPTIONS
    "${isa_flags};-mavx2;-mfma;-mf16c")
  set_source_files_properties(csrc/core/isa/avx512.cc PROPERTIES COMPILE_OPTIONS
    "${isa_flags};-mavx512f;-mavx512dq;-mavx512vl;-mavx512bw;-mfma;-mprefer-vector-width=512")
  list(PREPEND shared_dense_isas avx512 avx2)
  if(SHARED_DENSE_TEST_ISAS)
    # How vectors wider than AVX2's are passed is nobody's ABI: all is internal.
    target_sources(shared_dense_core PRIVATE csrc/core/isa/avx2_wide.cc)
    set_source_files_properties(csrc/core/isa/avx2_wide.cc PROPERTIES COMPILE_OPTIONS
      "${isa_flags};-mavx2;-mfma;-Wno-psabi")
    target_compile_definitions(shared_dense_core PRIVATE SHARED_DENSE_TEST_ISAS)
  endif()
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  target_sources(shared_dense_core PRIVATE csrc/core/isa/neon.cc)
  set_source_files_properties(csrc/core/isa/neon.cc PROPERTIES COMPILE_OPTIONS
    "${isa_flags}")
  list(PREPEND shared_dense_isas neon)
endif()

target_include_directories(shared_dense_core PUBLIC csrc)
target_compile_options(shared_dense_core PRIVATE -Wall -Wextra -Wno-ignored-attributes
  -fvisibility=hidden)
target_link_libraries(shared_dense_core PUBLIC Threads::Threads)

# One copy of it in a package, which the op library, XLA's and the Python module
# are linked to. Its name says what it is built of: of two libraries of one
# name in a process the dynamic linker takes the first for both, so two copies
# of the package would get the same core, of whichever version that is.
file(GLOB_RECURSE core_files CONFIGURE_DEPENDS csrc/core/*.cc csrc/core/*.h csrc/core/*.inc)
list(SORT core_files)
list(APPEND core_files "${CMAKE_CURRENT_LIST_FILE}")  # its flags
set(core_hashes "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} ${SHARED_DENSE_TEST_ISAS}")
foreach(file IN LISTS core_files)
  file(SHA256 "${file}" hash)
  string(APPEND core_hashes "${hash}")
endforeach()
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${core_files})
string(SHA256 core_hashes "${core_hashes}")
string(SUBSTRING "${core_hashes}" 0 12 core_hashes)
set(shared_dense_core_library "_core_${core_hashes}.so")

add_library(shared_dense_core_shared SHARED $<TARGET_OBJECTS:shared_dense_core>)
set_target_properties(shared_dense_core_shared PROPERTIES
  PREFIX "" OUTPUT_NAME "_core_${core_hashes}")
target_include_directories(shared_dense_core_shared INTERFACE csrc)
target_link_libraries(shared_dense_core_shared PRIVATE Threads::Threads)
install(TARGETS shared_dense_core_shared LIBRARY DESTINATION .)

# Has a target take the core from the library that lies beside it.
function(shared_dense_link_core target)
  target_link_libraries(${target} PRIVATE shared_dense_core_shared)
  set_target_properties(${target} PROPERTIES
    INSTALL_RPATH "$ORIGIN" BUILD_WITH_INSTALL_RPATH ON)
endfunction()
