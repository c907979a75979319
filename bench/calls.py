"""What Python adds to a call outside of graphs: `python -m bench.calls [INPUTS...]`.

Side by side, in rounds: the raw op, `shared_matmul`, a Keras layer that gives its inputs back,
`SharedDense`, and a Dense per input. Inputs of one row, 32 -> 16, relu, one thread, no tape.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

import keras
import tensorflow as tf

import shared_dense as sd
from bench import interleaved
from shared_dense.runtime import loader

INPUTS = (2, 8, 64, 128)
WIDTH, UNITS = 32, 16
ROUNDS, BUDGET = 15, 0.02  # seconds of a contestant in a round


class Identity(keras.layers.Layer):
    """What Keras's own call takes."""

    def call(self, inputs):
        """The inputs."""
        return inputs


def contestants(inputs: int) -> dict[str, Callable[[], object]]:
    """Calls on so many inputs, by name."""
    xs = [tf.random.normal([1, WIDTH]) for _ in range(inputs)]
    layer, dense = (kind(UNITS, activation="relu") for kind in (sd.SharedDense, keras.layers.Dense))
    identity = Identity()
    layer(xs), dense(xs[0]), identity(xs)  # which builds them
    kernel, bias = tf.constant(layer.kernel), tf.constant(layer.bias)
    op = loader.load().ops.shared_dense_shared_mat_mul
    return {
        "raw op": lambda: op(inputs=xs, kernel=kernel, biases=[bias], activations=["relu"]),
        "shared_matmul": lambda: sd.shared_matmul(xs, kernel, bias, activation="relu"),
        "identity layer": lambda: identity(xs),
        "SharedDense": lambda: layer(xs),
        "Dense each": lambda: [dense(x) for x in xs],
    }


def measure(inputs: int, rounds: int = ROUNDS, budget: float = BUDGET) -> dict[str, float]:
    """Microseconds of a call, the median of the rounds, by contestant."""
    runs = {name: interleaved.calls(call) for name, call in contestants(inputs).items()}
    found = interleaved.measure(runs, rounds, budget)
    return {name: 1e6 * statistics.median(seconds) for name, seconds in found.items()}


def main() -> int:
    """Prints a line for each number of inputs."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    for inputs in map(int, sys.argv[1:] or INPUTS):
        us = measure(inputs)
        floor = us["identity layer"] + us["raw op"]
        print(
            f"{inputs} inputs, us: "
            + ", ".join(f"{name} {value:.0f}" for name, value in us.items())
            + f"; shared_matmul / raw op {us['shared_matmul'] / us['raw op']:.2f}"
            + f", SharedDense / (identity layer + raw op) {us['SharedDense'] / floor:.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
