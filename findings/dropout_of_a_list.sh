#!/usr/bin/env bash
# Dropout of a list gives a list, until it trains: then it gives one tensor, the inputs stacked.
#
# Versions: tensorflow-cpu 2.21.0, keras 3.15.1, numpy 2.4.6, CPython 3.11, Linux x86-64.
# Guess: the layer refuses a list or maps over it, alike in both modes.
# Seen: at inference the list comes back as it was; in training the two are stacked along a new first axis. A
#   model of two inputs around it builds and predicts, and its fit fails with a message about outputs that
#   are not connected. GaussianNoise and GaussianDropout do the same; ReLU and Rescaling stack always.
# Output:
#   Dropout: list of 2, then a tensor (2, 4, 3)
#   GaussianNoise: list of 2, then a tensor (2, 4, 3)
#   ReLU: a tensor (2, 4, 3), then a tensor (2, 4, 3)
#   model: predicts
#   model: fit raises ValueError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorflow-cpu==2.21.0 keras==3.15.1 numpy==2.4.6

cat > "$folder/program.py" <<'PROGRAM'
import sys

import keras
import numpy as np

xs = [np.ones((4, 3), "float32"), np.ones((4, 3), "float32")]


def said(y):
    return f"list of {len(y)}" if isinstance(y, list) else f"a tensor {tuple(y.shape)}"


found = []
for layer in (keras.layers.Dropout(0.5), keras.layers.GaussianNoise(1.0), keras.layers.ReLU()):
    modes = [{}, {}] if isinstance(layer, keras.layers.ReLU) else [{}, {"training": True}]
    found.append(f"{type(layer).__name__}: " + ", then ".join(said(layer(xs, **m)) for m in modes))
inputs = [keras.Input((3,)), keras.Input((3,))]
model = keras.Model(inputs, keras.layers.Dot(1)(keras.layers.Dropout(0.5)(inputs)))
model.predict(xs, verbose=0)
found.append("model: predicts")
model.compile("sgd", "mse")
try:
    model.fit(xs, np.zeros((4, 1)), verbose=0)
    found.append("model: fit runs")
except ValueError:
    found.append("model: fit raises ValueError")
print(*found, sep="\n")
stacked = "a tensor (2, 4, 3)"
wanted = [f"{name}: list of 2, then {stacked}" for name in ("Dropout", "GaussianNoise")]
wanted += [f"ReLU: {stacked}, then {stacked}", "model: predicts", "model: fit raises ValueError"]
sys.exit(found != wanted)
PROGRAM
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/program.py" 2> "$folder/log" || {
    echo "Keras behaves otherwise now" >&2
    tail -5 "$folder/log" >&2
    exit 1
}
