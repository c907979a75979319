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


def copies(kernel: tf.Tensor, last_cache: int) -> list[tf.Tensor]:
    """So many that no cache holds one until its turn comes again: more than twice `last_cache`."""
    count = 2 * last_cache // (int(tf.size(kernel)) * kernel.dtype.size) + 1
    # A sum is new memory; the result of an identity would be the same.
    return [kernel + tf.zeros_like(kernel) for _ in range(count)]


def shelf(kernels: Sequence[tf.Tensor]) -> tf.TensorArray:
    """Hands out the kernels by number, in a graph and without a copy."""
    array = tf.TensorArray(
        kernels[0].dtype, len(kernels), element_shape=kernels[0].shape, clear_after_read=False
    )
    for k, kernel in enumerate(kernels):
        array = array.write(k, kernel)
    return array


def repeat(layer: Layer | None, results: int) -> Callable:
    """A function that runs the layer `count` times in a loop, one after the other.

    Nothing is copied to chain the turns: a turn's inputs wait for its number, and the next number
    waits for all `results` of the layer. Without a layer, operands stand in for the results. Where
    there is more than one kernel, every turn takes the next, from number `first` on.
    """

    def run(
        first: tf.Tensor, count: tf.Tensor, operands: Operands, kernels: Sequence[tf.Tensor]
    ) -> tf.Tensor:
        kept = shelf(kernels) if len(kernels) > 1 else None

        def turn(i: tf.Tensor) -> tf.Tensor:
            given = operands._replace(kernel=kept.read(i % len(kernels))) if kept else operands
            with tf.control_dependencies([i]):
                own = tf.nest.map_structure(tf.identity, given)
            flat = tf.nest.flatten(own)
            ys = layer(own) if layer else [flat[k % len(flat)] for k in range(results)]
            # The identities matter: grappler fuses no op that another one waits for.
            with tf.control_dependencies([tf.identity(y) for y in ys]):
                return i + 1

        last = first + count
        return tf.while_loop(lambda i: i < last, turn, [first], parallel_iterations=1)[0]

    return run


def loop(
    layer: Layer | None, operands: Operands, kernels: Sequence[tf.Tensor], results: int
) -> interleaved.Run:
    """Times a call that takes so many turns, from the kernel on where the last one stopped."""
    run = tf.function(repeat(layer, results), autograph=False)
    first = 0

    def seconds(count: int) -> float:
        nonlocal first
        given = tf.constant(first), tf.constant(count), operands, kernels
        start = time.perf_counter()
        run(*given).numpy()
        end = time.perf_counter()
        first = (first + count) % max(len(kernels), 1)
        return end - start

    seconds(1)  # traces, compiles
    return seconds


def measure(
    layers: dict[str, Layer], operands: Operands, kernels: Sequence[tf.Tensor], results: int,
    rounds: int, budget: float,
) -> dict[str, list[float]]:  # fmt: skip
    """Seconds of one call of every layer in every round; see interleaved.measure.

    Args:
        layers: the contestants.
        operands: what they are called on.
        kernels: what takes the place of the operands' kernel in turn; empty for that one alone.
        results: how many results a layer has.
        rounds: how many rounds.
        budget: seconds of a contestant in a round.
    """
    loops = {name: loop(layer, operands, kernels, results) for name, layer in layers.items()}
    empty = loop(None, operands, kernels, results)
    return interleaved.measure(loops, rounds, budget, dict.fromkeys(loops, empty))
