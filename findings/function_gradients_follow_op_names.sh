#!/usr/bin/env bash
# The name of an op changes the bits of a gradient inside tf.function.
#
# Versions: tensorflow-cpu 2.21.0, numpy 2.4.6, CPython 3.11, Linux x86-64.
# Guess: a bias that three calls share gets the sum of three gradients, added in the order of the
#   calls or in reverse, the same in eager mode and in a graph, whatever the ops are called.
# Seen: eager tapes, and functions that XLA compiles, add from the last call to the first. In a
#   plain tf.function the arithmetic optimizer sorts the operands of the sum by the names of the
#   ops, as text (it takes AddN for commutative). Calls in scopes a, b, c and in scopes c, b, a so
#   have gradients that differ in all digits, where float32 rounds. With
#   arithmetic_optimization off, names do not matter.
# Output (the column that is 1 tells which of the three was added last: 0 is the first call):
#   optimizer on   scopes abc   eager [1, 0, 0]   function [0, 0, 1]   compiled [1, 0, 0]
#   optimizer on   scopes cba   eager [1, 0, 0]   function [1, 0, 0]   compiled [1, 0, 0]
#   optimizer off  scopes abc   eager [1, 0, 0]   function [1, 0, 0]   compiled [1, 0, 0]
#   optimizer off  scopes cba   eager [1, 0, 0]   function [1, 0, 0]   compiled [1, 0, 0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorflow-cpu==2.21.0 numpy==2.4.6

cat > "$folder/program.py" <<'PROGRAM'
import sys

import tensorflow as tf

# Per call, the gradient of each of three units: of 1, 1e8 and -1e8 only the 1 that comes last counts.
SCALES = [[1, 1e8, 1e8], [1e8, 1, -1e8], [-1e8, -1e8, 1]]


def gradient_in(scopes):
    def gradient(x, kernel, bias):
        with tf.GradientTape() as tape:
            tape.watch(bias)
            loss = 0.0
            for scope, scale in zip(scopes, SCALES, strict=True):
                with tf.name_scope(scope):
                    loss += tf.reduce_sum((tf.matmul(x, kernel) + bias) * scale)
        return tape.gradient(loss, bias)

    return gradient


operands = tf.zeros([1, 2]), tf.zeros([2, 3]), tf.zeros([3])
FIRST, LAST = [1, 0, 0], [0, 0, 1]
wanted = {(True, "abc"): LAST, (True, "cba"): FIRST, (False, "abc"): FIRST, (False, "cba"): FIRST}
same = True
for (optimizer, scopes), in_function in wanted.items():
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": optimizer})
    gradient = gradient_in(scopes)
    ways = gradient, tf.function(gradient), tf.function(gradient, jit_compile=True)
    eager, function, compiled = ([int(v) for v in way(*operands)] for way in ways)
    state = "on " if optimizer else "off"
    print(f"optimizer {state}  scopes {scopes}   eager {eager}   function {function}   compiled {compiled}")
    same &= (eager, function, compiled) == (FIRST, in_function, FIRST)
sys.exit(not same)
PROGRAM
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/program.py" 2> "$folder/log" || {
    echo "TensorFlow behaves otherwise now" >&2
    tail -5 "$folder/log" >&2
    exit 1
}
