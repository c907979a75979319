# What this build is, for status() and for the loader's version check.
if(NOT SHARED_DENSE_VERSION)
  set(SHARED_DENSE_VERSION "unknown")
endif()
list(JOIN shared_dense_isas "\", \"" isas)
if(shared_dense_cuda)
  set(cuda true)
else()
  set(cuda false)
endif()
set(isas "[\"${isas}\"]")
configure_file("${CMAKE_CURRENT_LIST_DIR}/build_info.json.in"
  "${CMAKE_CURRENT_BINARY_DIR}/_build_info.json" @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/_build_info.json" DESTINATION .)
