#!/usr/bin/env bash
# tf.train.Checkpoint of a Keras layer stores no weight that the layer keeps in a dict or a list (in a tuple it does), and says nothing.
#
# Versions: tensorflow-cpu 2.21.0, keras 3.15.1, numpy 2.4.6, CPython 3.11, Linux x86-64.
# Guess: a checkpoint holds all of layer.weights, as a file of save_weights does; or, as with a tf.Module, the
#   lists and dicts of a layer are gone through.
# Seen: it holds those that are attributes of their layer themselves, or in a tuple. Read again, the others keep what they
#   were made with, and assert_consumed() passes. save_weights stores all.
# Output:
#   as an attribute: 1 of 1 weights stored
#   in a dict: 0 of 1 weights stored
#   in a list: 0 of 1 weights stored
#   in a tuple: 1 of 1 weights stored
#   in a dict of a tf.Module: 1 of 1 weights stored
#   a weight in a dict, read again: 0.0 (was 7.0); assert_consumed passed
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorflow-cpu==2.21.0 keras==3.15.1 numpy==2.4.6

cat > "$folder/program.py" <<'PROGRAM'
import sys

import keras
import tensorflow as tf

HOLD = {
    "as an attribute": lambda w: w,
    "in a dict": lambda w: {"w": w},
    "in a list": lambda w: [w],
    "in a tuple": lambda w: (w,),
}


class Holder(keras.layers.Layer):
    def __init__(self, how):
        super().__init__()
        self.w = HOLD[how](self.add_weight(shape=(), initializer="zeros"))
        self.built = True


class Module(tf.Module):
    def __init__(self):
        super().__init__()
        self.w = {"w": tf.Variable(0.0)}


def stored(holder):
    tf.train.Checkpoint(it=holder).write("stored")
    return sum(name.endswith("VARIABLE_VALUE") for name, _ in tf.train.list_variables("stored"))


found = []
for how in HOLD:
    layer = Holder(how)
    found.append(f"{how}: {stored(layer)} of {len(layer.weights)} weights stored")
module = Module()
found.append(f"in a dict of a tf.Module: {stored(module)} of {len(module.variables)} weights stored")

first, second = Holder("in a dict"), Holder("in a dict")
first.w["w"].assign(7.0)
tf.train.Checkpoint(it=first).write("again")
tf.train.Checkpoint(it=second).read("again").assert_consumed()
found.append(
    f"a weight in a dict, read again: {float(second.w['w'].numpy())} (was 7.0); assert_consumed passed"
)
print(*found, sep="\n")
sys.exit(found != [
    "as an attribute: 1 of 1 weights stored",
    "in a dict: 0 of 1 weights stored",
    "in a list: 0 of 1 weights stored",
    "in a tuple: 1 of 1 weights stored",
    "in a dict of a tf.Module: 1 of 1 weights stored",
    "a weight in a dict, read again: 0.0 (was 7.0); assert_consumed passed",
])
PROGRAM
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/program.py" 2> "$folder/log" || {
    echo "TensorFlow or Keras behaves otherwise now" >&2
    tail -5 "$folder/log" >&2
    exit 1
}
