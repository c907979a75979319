"""The method: time inside the graph, contestants interleaved round by round.

A call from Python costs hundreds of microseconds whatever runs inside. So a contestant runs many
times in a `tf.while_loop` in one call, and the time of the same loop without it is taken off.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from bench.contestants import Layer, Operands

# Parts of grappler that would remove the body of the loop, or take it out. The remapper, which
# gives plain reuse its fused matmul, stays on.
SWITCHED_OFF = ("dependency_optimization", "loop_optimization")


def prepare(threads: int) -> None:
    """Sets TensorFlow up for timing; to be called before it runs anything."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.optimizer.set_experimental_options(dict.fromkeys(SWITCHED_OFF, False))
    # Every loop is a function of its own, which it would warn of as a likely mistake.
    tf.get_logger().setLevel("ERROR")


def repeat(layer: Layer | None, results: int) -> Callable:
    """A function that runs the layer `count` times in a loop, one after the other.

    Nothing is copied to chain the turns: a turn's inputs wait for its number, and the next number
    waits for all `results` of the layer. Without a layer, operands stand in for the results.
    """

    def run(count: tf.Tensor, operands: Operands) -> tf.Tensor:
        def turn(i: tf.Tensor) -> tf.Tensor:
            with tf.control_dependencies([i]):
                own = tf.nest.map_structure(tf.identity, operands)
            flat = tf.nest.flatten(own)
            ys = layer(own) if layer else [flat[k % len(flat)] for k in range(results)]
            # The identities matter: grappler fuses no op that another one waits for.
            with tf.control_dependencies([tf.identity(y) for y in ys]):
                return i + 1

        return tf.while_loop(lambda i: i < count, turn, [tf.constant(0)], parallel_iterations=1)[0]

    return run


class Loop:
    """A layer in its loop, compiled for given operands."""

    def __init__(self, layer: Layer | None, operands: Operands, results: int):
        self._run = tf.function(repeat(layer, results), autograph=False)
        self._operands = operands
        self.seconds(1)  # traces, compiles

    def seconds(self, count: int) -> float:
        """Of one call that takes `count` turns."""
        start = time.perf_counter()
        self._run(tf.constant(count), self._operands).numpy()
        return time.perf_counter() - start


def measure(
    layers: dict[str, Layer], operands: Operands, results: int, rounds: int, budget: float
) -> dict[str, list[float]]:
    """Seconds of every layer in every round of about `budget` seconds each.

    In every round the layers take turns, another one first each time, so that what disturbs the
    machine disturbs all of them. The loop without a layer is timed as often and as long, and its
    median taken off: it costs much the same every time, and one that was held up would leave less
    than nothing.
    """
    loops = {name: Loop(layer, operands, results) for name, layer in layers.items()}
    empty = Loop(None, operands, results)
    counts = {
        name: int(np.clip(budget / min(loop.seconds(2) / 2 for _ in range(2)), 1, 20_000))
        for name, loop in loops.items()
    }
    names = list(loops)
    whole: dict[str, list[float]] = {name: [] for name in names}
    without: dict[str, list[float]] = {name: [] for name in names}
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            whole[name].append(loops[name].seconds(counts[name]))
            without[name].append(empty.seconds(counts[name]))
    return {
        name: [max(t - statistics.median(without[name]), 1e-9) / counts[name] for t in whole[name]]
        for name in names
    }
