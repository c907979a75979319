#!/usr/bin/env bash
# The first eager tf.shape_n of a length takes time quadratic in it: 40 s for 8,001 tensors.
#
# Versions: tensorflow-cpu 2.21.0, numpy 2.4.6, CPython 3.11, Linux x86-64.
# Guess: ShapeN looks at no element, so of all ops that take a list of tensors it is the cheapest,
#   and what the first call of a length costs beyond later ones is the same for all of them.
# Seen: the first call of ShapeN takes 17 times as long as that of AddN for 4,001 tensors, 40 times
#   for 8,001, four to five times as long for twice the length; the second call of that length
#   takes milliseconds. Pack, ConcatV2, Split and Unpack are like AddN, IdentityN takes up to twice
#   as long as AddN.
# Output (ms, of two processors; checked are the ratios, with room, at 2,001 and 4,001 tensors):
#   ShapeN   2001 tensors: first call  2046, second 9    4001 tensors: first call  7899, second 16
#   AddN     2001 tensors: first call   329, second 1    4001 tensors: first call   443, second 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorflow-cpu==2.21.0 numpy==2.4.6

cat > "$folder/program.py" <<'PROGRAM'
import sys
import time

import tensorflow as tf


def milliseconds(op, tensors):
    start = time.perf_counter()
    op(tensors)
    return 1e3 * (time.perf_counter() - start)


OPS = {
    "ShapeN": lambda tensors: tf.raw_ops.ShapeN(input=tensors),
    "AddN": lambda tensors: tf.raw_ops.AddN(inputs=tensors),
}
first, second = {}, {}
for name, op in OPS.items():
    op([tf.zeros([1])] * 3)
    for n in (2001, 4001):
        tensors = [tf.zeros([1])] * n
        first[name, n] = milliseconds(op, tensors)
        second[name, n] = milliseconds(op, tensors)
    print(f"{name:8}", *(
        f"{n} tensors: first call {first[name, n]:5.0f}, second {second[name, n]:.0f}   "
        for n in (2001, 4001)
    ))
slow = first["ShapeN", 4001] > 5 * first["AddN", 4001]
quadratic = first["ShapeN", 4001] > 2.8 * first["ShapeN", 2001]
once = second["ShapeN", 4001] < first["ShapeN", 4001] / 50
sys.exit(not (slow and quadratic and once))
PROGRAM
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/program.py" 2> "$folder/log" || {
    echo "TensorFlow behaves otherwise now" >&2
    tail -5 "$folder/log" >&2
    exit 1
}
