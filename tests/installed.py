"""What a user does with an installed wheel; run by test_wheel.py where nothing else of ours is.

Prints a JSON object. All numbers are small integers over powers of two, so that one step of
training is exact in float32 and the weights after it are those of the float64 formulas, bit by bit.
"""

from __future__ import annotations

import json
import sys

import keras
import numpy as np

import shared_dense as sd

ROWS, WIDTH, UNITS = 4, 8, 8


def step(jit_compile: bool) -> bool:
    """Trains a difference of two branches for one step; whether the weights are those wanted."""
    rng = np.random.default_rng(0)
    left, right, wanted = rng.integers(-3, 4, (3, ROWS, WIDTH)).astype("float64")
    kernel, bias = rng.integers(-2, 3, (WIDTH, UNITS)), rng.integers(-2, 3, UNITS)

    inputs = [keras.Input((WIDTH,)), keras.Input((WIDTH,))]
    layer = sd.SharedDense(UNITS, activation="relu")
    model = keras.Model(inputs, keras.layers.Subtract()(layer(inputs)))
    layer.set_weights([kernel, bias])
    model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=jit_compile)
    model.fit([left, right], wanted, batch_size=ROWS, epochs=1, verbose=0)

    z = [x @ kernel + bias for x in (left, right)]
    slope = 2 * (np.maximum(z[0], 0) - np.maximum(z[1], 0) - wanted) / wanted.size
    dz = [slope * (z[0] > 0), -slope * (z[1] > 0)]
    new_kernel = kernel - (left.T @ dz[0] + right.T @ dz[1])
    new_bias = bias - (dz[0] + dz[1]).sum(axis=0)
    trained = layer.get_weights()
    return np.array_equal(trained[0], new_kernel) and np.array_equal(trained[1], new_bias)


def main() -> None:
    """Prints what happened."""
    exact = {"plain": step(False), "jit": step(True)}
    status = sd.status()
    seen = {name: getattr(status, name) for name in ("available", "reason", "xla", "last_path")}
    core = sys.modules["shared_dense._core"]
    print(json.dumps({**seen, "exact": exact, "file": sd.__file__, "isas": core.built_isas()}))


if __name__ == "__main__":
    main()
