# The installed TensorFlow: flags from tf.sysconfig, as one line per variable.
execute_process(
  COMMAND "${CMAKE_COMMAND}" -E env TF_CPP_MIN_LOG_LEVEL=3
    "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_LIST_DIR}/tensorflow_flags.py"
  OUTPUT_VARIABLE tensorflow_flags OUTPUT_STRIP_TRAILING_WHITESPACE
  ERROR_VARIABLE tensorflow_error RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR
    "TensorFlow does not import in ${Python3_EXECUTABLE}:\n${tensorflow_error}\n"
    "Install the one you will run on (pip install 'tensorflow==2.21.*') and build with "
    "--no-build-isolation, or set SHARED_DENSE_NO_EXTENSION=1 for the Python-only package.")
endif()
string(REPLACE "\n" ";" tensorflow_flags "${tensorflow_flags}")
list(GET tensorflow_flags 0 TENSORFLOW_VERSION)
list(GET tensorflow_flags 1 TENSORFLOW_INCLUDE_DIR)
list(GET tensorflow_flags 2 TENSORFLOW_LIBRARY_DIR)
list(GET tensorflow_flags 3 tensorflow_definitions)
string(REPLACE " " ";" TENSORFLOW_DEFINITIONS "${tensorflow_definitions}")
string(REGEX MATCH "^[0-9]+\\.[0-9]+" TENSORFLOW_MINOR "${TENSORFLOW_VERSION}")
if(TENSORFLOW_VERSION VERSION_LESS 2.18)
  message(FATAL_ERROR "TensorFlow ${TENSORFLOW_VERSION} is too old: shared-dense builds against "
    "2.18 and later")
endif()
message(STATUS "TensorFlow ${TENSORFLOW_VERSION} in ${TENSORFLOW_LIBRARY_DIR}")
add_compile_options("-ffile-prefix-map=${TENSORFLOW_INCLUDE_DIR}/=")
