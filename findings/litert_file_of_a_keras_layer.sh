#!/usr/bin/env bash
# A LiteRT file of a Keras layer's function has no weights, if the layer is named as what holds them.
#
# Versions: tensorflow-cpu 2.21.0, keras 3.15.1, numpy 2.4.6, CPython 3.11, Linux x86-64.
# Guess: from_concrete_functions takes as trackable_obj the object that owns the variables, and a Keras
#   layer owns them. Left out, which is deprecated, or of another object, is what may go wrong.
# Seen: with the layer the conversion succeeds, without a warning, and the file of a Dense of 64 x 64
#   has 1.6 KB: its 16 KB of weights are not in it, and what it computes is not the layer's numbers.
#   With None, or with an empty tf.Module, the weights are there.
# Output (bytes of the file; the weights alone are 16,640):
#   trackable_obj a Keras layer: 1620
#   trackable_obj None: 17204
#   trackable_obj an empty tf.Module: 17204
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorflow-cpu==2.21.0 keras==3.15.1 numpy==2.4.6

cat > "$folder/program.py" <<'PROGRAM'
import sys

import keras
import tensorflow as tf

layer = keras.layers.Dense(64)
layer.build((None, 64))
function = tf.function(lambda x: layer(x)).get_concrete_function(tf.TensorSpec([None, 64]))
sizes = {}
for name, owner in (("a Keras layer", layer), ("None", None), ("an empty tf.Module", tf.Module())):
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], owner)
    sizes[name] = len(converter.convert())
    print(f"trackable_obj {name}: {sizes[name]}")
weights = 4 * (64 * 64 + 64)
sys.exit([size > weights for size in sizes.values()] != [False, True, True])
PROGRAM
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/program.py" 2> "$folder/log" || {
    echo "TensorFlow behaves otherwise now" >&2
    tail -5 "$folder/log" >&2
    exit 1
}
