#!/usr/bin/env bash
# A model of one output has two in OpenVINO, if that output is silu's.
#
# Versions: tensorflow-cpu 2.21.0, keras 3.15.1, openvino 2026.4.1, scipy 1.17.1, numpy 2.4.6,
#   CPython 3.11, Linux x86-64.
# Guess: a Keras model exported with format="openvino" has as many outputs as the model.
# Seen: with relu it has. With silu, whose gradient is TensorFlow's own, so that an IdentityN of two
#   tensors stands behind it in the graph, the compiled model has its only output twice, in the
#   list of outputs and in the results.
# Output:
#   relu: 1 output, 1 result
#   silu: 2 outputs, 2 results
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorflow-cpu==2.21.0 keras==3.15.1 openvino==2026.4.1 scipy==1.17.1 numpy==2.4.6

cat > "$folder/program.py" <<'PROGRAM'
import sys

import keras
import numpy as np
import openvino

found = {}
for name in ("relu", "silu"):
    x = keras.Input((4,), name="x")
    model = keras.Model(x, keras.layers.Dense(3, activation=name)(x))
    model(np.ones((2, 4), "float32"))
    model.export(f"{name}.xml", format="openvino", verbose=False)
    compiled = openvino.Core().compile_model(f"{name}.xml", "CPU")
    results = compiled({"x": np.ones((2, 4), "float32")})
    found[name] = len(compiled.outputs), len(list(results.values()))
    print(f"{name}: {found[name][0]} output{'s' * (found[name][0] > 1)}, {found[name][1]} result{'s' * (found[name][1] > 1)}")
sys.exit(found != {"relu": (1, 1), "silu": (2, 2)})
PROGRAM
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/program.py" 2> "$folder/log" || {
    echo "Keras or OpenVINO behaves otherwise now" >&2
    tail -5 "$folder/log" >&2
    exit 1
}
