#!/usr/bin/env bash
# Runs exported models in ONNX Runtime, LiteRT and OpenVINO, in an environment that has these.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?usage: tools/exports.sh VENV}
if [ ! -e "$venv-exports/.installed" ]; then
  echo "Setting up $venv-exports with TensorFlow and the runtimes (a minute or two) ..."
  "$venv/bin/python" -m venv "$venv-exports"
  "$venv-exports/bin/python" -m pip install -q --disable-pip-version-check \
    -r requirements-dev.txt -r tests/requirements-exports.txt
  touch "$venv-exports/.installed"
fi
# A runtime that is missing there is a failure, not a reason to skip.
SHARED_DENSE_EXPORTS=1 PYTHONPATH=python "$venv-exports/bin/python" -m pytest tests/test_export_runtimes.py
