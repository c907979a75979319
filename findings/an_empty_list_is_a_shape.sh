#!/usr/bin/env bash
# An empty list among the symbolic inputs of a layer comes out as a scalar tensor, if the layer tells shapes.
#
# Versions: tensorflow-cpu 2.21.0, keras 3.15.1, numpy 2.4.6, CPython 3.11, Linux x86-64.
# Guess: a part of the structure that is empty stays empty, as it does outside of models.
# Seen: outside, and in a model if the layer does not define compute_output_shape, the empty list stays. With
#   compute_output_shape, which gets [] where the list is and gives it back, Keras reads [] as a shape of no
#   axes and makes a symbolic tensor of it, which no input stands behind.
# Output:
#   outside of a model: b is a list
#   in a model: b is a list
#   in a model, with compute_output_shape: b is a KerasTensor of shape ()
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorflow-cpu==2.21.0 keras==3.15.1 numpy==2.4.6

cat > "$folder/program.py" <<'PROGRAM'
import sys

import keras
import numpy as np


class Twice(keras.layers.Layer):
    def call(self, x):
        return keras.tree.map_structure(lambda v: 2 * v, x)


class TwiceWithShapes(Twice):
    def compute_output_shape(self, input_shape):
        return input_shape


def said(y):
    return f"a KerasTensor of shape {y.shape}" if isinstance(y, keras.KerasTensor) else "a list"


x, a = keras.Input((3,)), np.ones((2, 3), "float32")
outside, plain = TwiceWithShapes()({"a": a, "b": []})["b"], Twice()({"a": x, "b": []})["b"]
found = [
    f"outside of a model: b is {said(outside)}",
    f"in a model: b is {said(plain)}",
]
symbolic = TwiceWithShapes()({"a": x, "b": []})["b"]
found.append(f"in a model, with compute_output_shape: b is {said(symbolic)}")
print(*found, sep="\n")
wanted = ["outside of a model: b is a list", "in a model: b is a list"]
sys.exit(found != [*wanted, "in a model, with compute_output_shape: b is a KerasTensor of shape ()"])
PROGRAM
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/program.py" 2> "$folder/log" || {
    echo "Keras behaves otherwise now" >&2
    tail -5 "$folder/log" >&2
    exit 1
}
