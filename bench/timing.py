"""The method inside the graph: many turns in a loop of one call, less the loop's own time.

A call from Python costs hundreds of microseconds whatever runs inside. So a contestant runs many
times in a `tf.while_loop` in one call, and the time of the same loop without it is taken off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import tensorflow as tf

from bench import interleaved
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


def cold_operands(operands: Operands, last_cache: int) -> list[Operands]:
    """The operands once for each of so many distinct kernels that no cache holds one until its turn
    comes again: together they take more than twice `last_cache` bytes.
    """
    kernel = operands.kernel
    count = 2 * last_cache // (int(tf.size(kernel)) * kernel.dtype.size) + 1
    # The sum with zero is a new tensor; an identity would be the same memory.
    return [operands._replace(kernel=kernel + tf.zeros_like(kernel)) for _ in range(count)]


def repeat(layer: Layer | None, results: int) -> Callable:
    """A function that runs the layer `count` times in a loop, on each of the operands in turn.

    Nothing is copied to chain the calls: a call's inputs wait for the number of the turn and for
    all `results` of the call before. Without a layer, operands stand in for the results.
    """

    def call(operands: Operands, after: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        with tf.control_dependencies(after):
            own = tf.nest.map_structure(tf.identity, operands)
        flat = tf.nest.flatten(own)
        ys = layer(own) if layer else [flat[k % len(flat)] for k in range(results)]
        # The identities matter: grappler fuses no op that another one waits for.
        return [tf.identity(y) for y in ys]

    def run(count: tf.Tensor, each: Sequence[Operands]) -> tf.Tensor:
        def turn(i: tf.Tensor) -> tf.Tensor:
            done = [i]
            for operands in each:
                done = call(operands, done)
            with tf.control_dependencies(done):
                return i + 1

        return tf.while_loop(lambda i: i < count, turn, [tf.constant(0)], parallel_iterations=1)[0]

    return run


class Loop:
    """A layer in its loop, compiled for given operands."""

    def __init__(self, layer: Layer | None, each: Sequence[Operands], results: int):
        self._run = tf.function(repeat(layer, results), autograph=False)
        self._each = list(each)
        self.seconds(1)  # traces, compiles

    def seconds(self, count: int) -> float:
        """Of one call that takes `count` turns."""
        start = time.perf_counter()
        self._run(tf.constant(count), self._each).numpy()
        return time.perf_counter() - start


def measure(
    layers: dict[str, Layer], each: Sequence[Operands], results: int, rounds: int, budget: float
) -> dict[str, list[float]]:
    """Seconds of one call of every layer in every round; see interleaved.measure.

    Args:
        layers: the contestants.
        each: what they are called on, one after the other; operands that differ in the kernel.
        results: how many results a layer has.
        rounds: how many rounds.
        budget: seconds of a contestant in a round.
    """
    loops = {name: Loop(layer, each, results).seconds for name, layer in layers.items()}
    empty = Loop(None, each, results).seconds
    seconds = interleaved.measure(loops, rounds, budget, dict.fromkeys(loops, empty))
    return {name: [turn / len(each) for turn in values] for name, values in seconds.items()}
