#!/usr/bin/env bash
# Builds the package in place with its GPU kernels and runs their tests; with a
# GPU, the check on it, too. Where there is no nvcc, pip's is installed in VENV.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?usage: tools/cuda.sh VENV}
found=$(command -v nvcc || ls "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" "$venv"/lib/python3*/site-packages/nvidia/cu13/bin/nvcc 2>/dev/null | head -n 1 || true)
if [ -z "$found" ]; then
  echo "No nvcc here: installing pip's, of CUDA 13, whose kernels need a driver of version 580 or later ..."
  "$venv/bin/python" -m pip install -q --disable-pip-version-check nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-cuobjdump
  found=$(ls "$venv"/lib/python3*/site-packages/nvidia/cu13/bin/nvcc)
fi
echo "Building with $found (two minutes on two cores) ..."
PATH="$(cd "$venv/bin" && pwd):$PATH" SHARED_DENSE_CUDA=on \
  "$venv/bin/python" -m pip install -q --no-build-isolation --no-deps -e .
touch "$venv/.built"
"$venv/bin/python" -m pytest tests/test_cuda_build.py tests/test_cuda_host.py tests/test_gpu_check.py \
  tests/test_bench_cuda.py
if [ -e /dev/nvidia0 ]; then
  SHARED_DENSE_NVCC=$found bash tests/cuda/run.sh
else
  echo "No GPU here: the kernels were built and checked on the host, and have not run."
fi
