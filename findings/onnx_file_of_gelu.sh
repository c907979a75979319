#!/usr/bin/env bash
# Keras exports a Dense with gelu to an ONNX file that ONNX Runtime refuses.
#
# Versions: tensorflow-cpu 2.21.0, keras 3.15.1, tf2onnx 1.17.0, onnx 1.23.2, onnxruntime 1.32.0,
#   numpy 2.4.6, CPython 3.11, Linux x86-64.
# Guess: gelu is one of the commonest activations, and ONNX has Erf, and Gelu itself from opset 20 on:
#   the export works, or fails with an error that names what cannot be exported.
# Seen: model.export(..., format="onnx") returns, having written a file with a node Erfc in ONNX's own
#   domain, which has no such operator. The runtime refuses the file as an invalid graph. With relu
#   the file runs. (tf.nn.gelu is made of erfc, not of erf.)
# Output:
#   relu: exported, runs
#   gelu: exported, InvalidGraph
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorflow-cpu==2.21.0 keras==3.15.1 tf2onnx==1.17.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6

cat > "$folder/program.py" <<'PROGRAM'
import sys

import keras
import numpy as np
import onnxruntime

found = {}
for name in ("relu", "gelu"):
    x = keras.Input((4,), name="x")
    model = keras.Model(x, keras.layers.Dense(3, activation=name)(x))
    batch = np.ones((2, 4), "float32")
    wanted = model(batch)
    model.export(f"{name}.onnx", format="onnx", verbose=False)
    try:
        session = onnxruntime.InferenceSession(f"{name}.onnx", providers=["CPUExecutionProvider"])
        (y,) = session.run(None, {"x": batch})
        found[name] = "runs" if np.allclose(y, wanted, atol=1e-6) else "runs, other numbers"
    except Exception as error:
        found[name] = type(error).__name__
    print(f"{name}: exported, {found[name]}")
sys.exit(found != {"relu": "runs", "gelu": "InvalidGraph"})
PROGRAM
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/program.py" 2> "$folder/log" || {
    echo "Keras, tf2onnx or ONNX Runtime behaves otherwise now" >&2
    tail -5 "$folder/log" >&2
    exit 1
}
