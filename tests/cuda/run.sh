#!/usr/bin/env bash
# Builds tests/cuda/check.cc with nvcc and runs it on this machine's GPU, then
# under compute-sanitizer where that is installed. Needs no TensorFlow.
# `--build FOLDER`: builds the program there and stops.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
[ "${1:-}" = --build ] && folder=$2
nvcc=${SHARED_DENSE_NVCC:-nvcc}
for source in csrc/cuda/*.cu csrc/cuda/*.cc csrc/core/reference.cc tests/cuda/check.cc; do
  "$nvcc" -std=c++17 -O2 --expt-relaxed-constexpr -I csrc -I tests/cuda -x cu -c "$source" \
    -gencode arch=compute_80,code=[sm_80,compute_80] -o "$folder/$(basename "$source").o"
done
"$nvcc" "$folder"/*.o -o "$folder/check"
[ "${1:-}" = --build ] && exit
"$folder/check"
if sanitizer=$(command -v compute-sanitizer); then
  for tool in memcheck racecheck; do
    "$sanitizer" --tool "$tool" --error-exitcode 1 "$folder/check" bfloat16 float32
  done
fi
