"""The method for calls from Python."""

from __future__ import annotations

import time

import keras
import tensorflow as tf

import shared_dense as sd
from bench import contestants, interleaved
from bench.contestants import Layer, Operands


def layers(operands: Operands, backward: bool) -> dict[str, Layer]:
    """The contestants; Dense and SharedDense as users have them, with variables of their own."""
    in_features, units = operands.kernel.shape
    settings = {"units": units, "activation": "relu", "dtype": operands.kernel.dtype.name}
    dense, shared = keras.layers.Dense(**settings), sd.SharedDense(**settings)
    for made in (dense, shared):
        made.build((None, in_features))
        made.set_weights([operands.kernel, operands.bias])

    def of_variables(made: keras.layers.Layer, call: Layer) -> Layer:
        def layer(given: Operands) -> list:
            sources = [*given.xs, *(weight.value for weight in made.weights)]
            with tf.GradientTape() as tape:
                tape.watch(given.xs)
                ys = call(given)
            return [*ys, *tape.gradient(ys, sources, output_gradients=given.dys)]

        return layer if backward else call

    return contestants.contestants(backward) | {
        "keras": of_variables(dense, lambda given: [dense(x) for x in given.xs]),
        "layer": of_variables(shared, lambda given: list(shared(given.xs))),
    }


def _run(layer: Layer, operands: Operands) -> interleaved.Run:
    def seconds(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            layer(operands)  # on a CPU a call returns when its results are there
        return time.perf_counter() - start

    return seconds


def measure(
    chosen: dict[str, Layer], operands: Operands, rounds: int, budget: float
) -> dict[str, list[float]]:
    """Seconds of one call of every layer in every round; see interleaved.measure."""
    runs = {name: _run(layer, operands) for name, layer in chosen.items()}
    return interleaved.measure(runs, rounds, budget, {})
