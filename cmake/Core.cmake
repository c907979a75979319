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
