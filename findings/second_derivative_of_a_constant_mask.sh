#!/usr/bin/env bash
# XLA takes the second derivative through tf.boolean_mask of a mask it is given, not of a constant.
#
# Versions: tensorflow-cpu 2.21.0, numpy 2.4.6, CPython 3.11, Linux x86-64.
# Guess: a mask that is known when the function is traced is the easier case, since the number of
#   rows that it picks is then a number; what compiles for a mask as argument compiles for it, too.
# Seen: with the mask as an argument the compiled second derivative is right. With the same mask as
#   a constant, it is right outside XLA, and an InvalidArgumentError about a reshape (3 values, the
#   rows before masking, into 2, the rows after it) inside. The first derivative compiles.
# Output:
#   mask is an argument   first derivative: compiled right   second derivative: compiled right
#   mask is a constant    first derivative: compiled right   second derivative: InvalidArgumentError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorflow-cpu==2.21.0 numpy==2.4.6

cat > "$folder/program.py" <<'PROGRAM'
import sys

import tensorflow as tf

X, MASK = tf.constant([[1.0, 2], [3, 4], [5, 6]]), tf.constant([True, False, True])


def first(x, mask):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(tf.boolean_mask(x, mask) ** 3)
    return tape.gradient(y, x)


def second(x, mask):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(first(x, mask) ** 2)
    return tape.gradient(y, x)


def compiled(derivative, constant):
    wanted = derivative(X, MASK).numpy().tolist()
    one, two = lambda x: derivative(x, MASK), derivative
    assert tf.function(two)(X, MASK).numpy().tolist() == wanted
    assert tf.function(one)(X).numpy().tolist() == wanted
    try:
        if constant:
            got = tf.function(one, jit_compile=True)(X)
        else:
            got = tf.function(two, jit_compile=True)(X, MASK)
    except tf.errors.InvalidArgumentError:
        return "InvalidArgumentError"
    return "compiled right" if got.numpy().tolist() == wanted else "compiled wrong"


found = {}
for constant, name in ((False, "an argument"), (True, "a constant")):
    found[constant] = [compiled(derivative, constant) for derivative in (first, second)]
    print(
        f"mask is {name:11}   first derivative: {found[constant][0]}"
        f"   second derivative: {found[constant][1]}"
    )
right, error = "compiled right", "InvalidArgumentError"
sys.exit(found != {False: [right, right], True: [right, error]})
PROGRAM
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/program.py" 2> "$folder/log" || {
    echo "TensorFlow behaves otherwise now" >&2
    tail -5 "$folder/log" >&2
    exit 1
}
