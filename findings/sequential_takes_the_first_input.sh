#!/usr/bin/env bash
# A Sequential that knows one input, given a list of two, computes the first and drops the second.
#
# Versions: tensorflow-cpu 2.21.0, keras 3.15.1, numpy 2.4.6, CPython 3.11, Linux x86-64.
# Guess: an error, as a functional model of the same layers and the same Sequential on a dict raise it.
# Seen: a direct call warns of the structure and gives the first input's output alone; predict and fit do,
#   too, and the second array is trained on by nobody.
# Output:
#   list: one output of shape (2, 2), UserWarning
#   predict: (2, 2)
#   fit: runs
#   dict: ValueError
#   functional model: ValueError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorflow-cpu==2.21.0 keras==3.15.1 numpy==2.4.6

cat > "$folder/program.py" <<'PROGRAM'
import sys
import warnings

import keras
import numpy as np

a, b = np.ones((2, 3), "float32"), 2 * np.ones((2, 3), "float32")
x, dense = keras.Input((3,)), keras.layers.Dense(2)
model = keras.Sequential([keras.Input((3,)), dense])
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    y = model([a, b])
kinds = sorted({warning.category.__name__ for warning in said})
found = [f"list: one output of shape {tuple(y.shape)}, {kinds[0]}"]
assert np.array_equal(y, dense(a))
warnings.simplefilter("ignore")
found.append(f"predict: {model.predict([a, b], verbose=0).shape}")
model.compile("sgd", "mse")
model.fit([a, b], np.zeros((2, 2)), verbose=0)
found.append("fit: runs")
for name, call in (
    ("dict", lambda: model({"a": a, "b": b})),
    ("functional model", lambda: keras.Model(x, dense(x))([a, b])),
):
    try:
        call()
        found.append(f"{name}: runs")
    except ValueError:
        found.append(f"{name}: ValueError")
print(*found, sep="\n")
wanted = ["list: one output of shape (2, 2), UserWarning", "predict: (2, 2)", "fit: runs"]
sys.exit(found != [*wanted, "dict: ValueError", "functional model: ValueError"])
PROGRAM
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/program.py" 2> "$folder/log" || {
    echo "Keras behaves otherwise now" >&2
    tail -5 "$folder/log" >&2
    exit 1
}
