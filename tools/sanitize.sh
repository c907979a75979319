#!/usr/bin/env bash
# Builds the core and its Python module with sanitizers and runs the core's tests on them:
# AddressSanitizer with UndefinedBehaviorSanitizer, then ThreadSanitizer.
set -euo pipefail
python=$(realpath -s "${1:?usage: tools/sanitize.sh PYTHON}")
export PATH="$(dirname "$python"):$PATH"
mkdir -p build
for sanitizers in address,undefined thread; do
  build=build/sanitize-${sanitizers%%,*}
  # Without avx2_wide: instrumented, it takes a minute and a half to compile.
  cmake -S . -B "$build" -DSHARED_DENSE_WITH_TENSORFLOW=OFF -DPython3_EXECUTABLE="$python" \
    -DSHARED_DENSE_TEST_ISAS=OFF \
    -DCMAKE_CXX_FLAGS="-g -fno-omit-frame-pointer -fno-sanitize-recover=all -fsanitize=$sanitizers" >"$build.log" 2>&1 ||
    { cat "$build.log"; exit 1; }
  cmake --build "$build" --parallel "$(nproc)" >"$build.log" 2>&1 || { cat "$build.log"; exit 1; }
  package=$build/package
  rm -rf "$package" && mkdir -p "$package"
  cp -r python/shared_dense "$package/" && rm -f "$package"/shared_dense/*.so
  cp "$build"/_core*.so "$package/shared_dense/"
  echo "== $sanitizers"
  # The interpreter is not instrumented: its own leaks and races are not ours to report.
  case $sanitizers in
    thread) runtime=libtsan.so tests="tests/test_core_bits.py" ;;
    *) runtime=libasan.so tests="tests/test_core.py tests/test_core_half.py tests/test_core_shapes.py tests/test_core_bits.py tests/test_core_selective.py" ;;
  esac
  # --capture=sys: a sanitizer writes to the descriptor, and then ends the process.
  # With libstdc++, or the runtime does not find what exceptions are thrown with.
  # shellcheck disable=SC2086
  LD_PRELOAD="$(g++ -print-file-name=$runtime) $(g++ -print-file-name=libstdc++.so.6)" ASAN_OPTIONS=detect_leaks=0 \
    TSAN_OPTIONS=ignore_noninstrumented_modules=1 PYTHONPATH="$package" \
    "$python" -m pytest -p no:cacheprovider --capture=sys $tests
done
