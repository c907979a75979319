#!/usr/bin/env bash
# tape.jacobian of a product without rows finds a dimension of 3 where the kernel has 7.
#
# Versions: tensorflow-cpu 2.21.0, numpy 2.4.6, CPython 3.11, Linux x86-64.
# Guess: the jacobian of x [0, 7] times w [7, 2] in w is a tensor [0, 2, 7, 2] without elements,
#   however the product is written.
# Seen: so it is for tf.einsum, and for tf.matmul of [2, 0, 7]. For tf.matmul of [0, 7], and for
#   tf.tensordot of any rank, TensorFlow refuses its own result with a ValueError: "Tensor's shape
#   (0, 2, 3, 2) is not compatible with supplied shape (0, 2, 7, 2)". There is no 3 in the program.
#   The jacobian in x is right everywhere.
# Output:
#   matmul     [0, 7]     (0, 2, 3, 2) is not compatible
#   matmul     [2, 0, 7]  (2, 0, 2, 7, 2)
#   tensordot  [0, 7]     (0, 2, 3, 2) is not compatible
#   tensordot  [2, 0, 7]  (2, 0, 2, 3, 2) is not compatible
#   einsum     [0, 7]     (0, 2, 7, 2)
#   einsum     [2, 0, 7]  (2, 0, 2, 7, 2)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorflow-cpu==2.21.0 numpy==2.4.6

cat > "$folder/program.py" <<'PROGRAM'
import re
import sys

import tensorflow as tf

PRODUCTS = {
    "matmul": tf.matmul,
    "tensordot": lambda x, w: tf.tensordot(x, w, 1),
    "einsum": lambda x, w: tf.einsum("...k,ku->...u", x, w),
}


def jacobian(product, shape):
    w = tf.ones([7, 2])
    with tf.GradientTape() as tape:
        tape.watch(w)
        y = product(tf.zeros(shape), w)
    try:
        return str(tuple(tape.jacobian(y, w).shape))
    except ValueError as error:
        return re.search(r"\(.*\) is not compatible", str(error)).group()


found = {}
for name, product in PRODUCTS.items():
    for shape in ([0, 7], [2, 0, 7]):
        found[name, len(shape)] = jacobian(product, shape)
        print(f"{name:10} {str(shape):10} {found[name, len(shape)]}")
sys.exit(
    found
    != {
        ("matmul", 2): "(0, 2, 3, 2) is not compatible",
        ("matmul", 3): "(2, 0, 2, 7, 2)",
        ("tensordot", 2): "(0, 2, 3, 2) is not compatible",
        ("tensordot", 3): "(2, 0, 2, 3, 2) is not compatible",
        ("einsum", 2): "(0, 2, 7, 2)",
        ("einsum", 3): "(2, 0, 2, 7, 2)",
    }
)
PROGRAM
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/program.py" 2> "$folder/log" || {
    echo "TensorFlow behaves otherwise now" >&2
    tail -5 "$folder/log" >&2
    exit 1
}
