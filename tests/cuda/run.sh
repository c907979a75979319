#!/usr/bin/env bash
# Checks csrc/cuda on this machine's GPU against float64: cases of every kind,
# the sizes of the CPU's own tests, and a small set under compute-sanitizer
# (memcheck, racecheck) where that is installed. Needs an nvcc and Python, no
# TensorFlow. `--build FOLDER`: builds the program there and stops.
# 0: all is well; 1: something is wrong; 2: it could not be checked.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
folder=
if [ "${1:-}" = --build ]; then folder=${2:?usage: run.sh [--build FOLDER]}; fi
build_only=$folder
folder=${folder:-$(mktemp -d)}

could_not() {
  echo "run.sh: $1" >&2
  exit 2
}

nvcc=${SHARED_DENSE_NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
[ -x "$nvcc" ] || could_not "no nvcc (a CUDA toolkit, or pip install nvidia-cuda-nvcc nvidia-cuda-runtime and SHARED_DENSE_NVCC=...)"
[ -n "$build_only" ] || [ -e /dev/nvidia0 ] || could_not "no GPU here; --build FOLDER builds the program all the same"
echo "Building with $nvcc ..."
for source in csrc/cuda/*.cu csrc/cuda/*.cc csrc/core/reference.cc tests/cuda/check.cc; do
  target=arch=compute_80,code=[sm_80,compute_80]
  [[ $source == csrc/cuda/hopper_* ]] && target=arch=compute_90a,code=sm_90a
  "$nvcc" -std=c++17 -O2 --expt-relaxed-constexpr -I csrc -I tests/cuda -x cu -c "$source" \
    -gencode "$target" -o "$folder/$(basename "$source").o" ||
    could_not "$source does not compile"
done
"$nvcc" "$folder"/*.o -o "$folder/check" || could_not "the program does not link"
[ -n "$build_only" ] && exit 0

command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
wrong=0
step() { # name, command...
  echo "== $1"
  shift
  "$@" || wrong=1
}
step "cases of every kind" "$folder/check"
sizes() { python3 tests/cuda/sizes.py | "$folder/check" --sizes; }
step "sizes of the CPU's tests" sizes
if sanitizer=$(command -v compute-sanitizer); then
  for tool in memcheck racecheck; do
    for dtype in float32 tf32 float64 bfloat16 float16; do
      step "$tool, $dtype" "$sanitizer" --tool "$tool" --error-exitcode 1 "$folder/check" "$dtype-small"
    done
  done
else
  echo "== no compute-sanitizer here: memory and races were not checked"
fi
[ "$wrong" = 0 ] && echo "All is well." || echo "SOMETHING IS WRONG, see above."
exit "$wrong"
