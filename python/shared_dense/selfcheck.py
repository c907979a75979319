"""A ten-second check that the op is right and worth having, on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import tensorflow as tf

from shared_dense.ops import matmul
from shared_dense.runtime import paths
from shared_dense.runtime.exactness import Problem

PROBLEM = Problem((8,) * 8, 1024, 1024)
ROUNDS = 15


class Check(NamedTuple):
    """One line of the table; `passed` is None for a figure that nothing depends on."""

    name: str
    passed: bool | None
    detail: str


def _call(inputs, kernel, bias, activations, transpose_kernel=False) -> list[tf.Tensor]:
    return matmul.shared_matmul(inputs, kernel, bias, activations, transpose_kernel)


def _gradients(inputs: list[tf.Tensor], kernel: tf.Tensor, bias: tf.Tensor) -> list:
    with tf.GradientTape() as tape:
        tape.watch([inputs, kernel, bias])
        outputs = _call(inputs, kernel, bias, "relu")
        total = tf.add_n([tf.reduce_sum(y * y) for y in outputs])
    return tape.gradient(total, [inputs, kernel, bias])


def _ratio(function: Callable, *args: object) -> float:
    """Time on the fallback over time on the current path: median of interleaved calls."""
    current = tf.function(function).get_concrete_function(*args)
    with paths.fallback():
        reuse = tf.function(function).get_concrete_function(*args)
    ratios = []
    for _ in range(ROUNDS):
        times = []
        for call in (reuse, current):
            start = time.perf_counter()
            call(*tf.nest.flatten(args))
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
    return statistics.median(ratios)


def run() -> Iterator[Check]:
    """Yields the checks one by one, as they finish."""
    # On a GPU, TensorFlow's own products may be rounded so, too.
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    excesses = PROBLEM.excesses(_call, tf32 and bool(tf.config.get_visible_devices("GPU")))
    taken = paths.last()
    yield Check("path", taken is not None, f"{taken.name}: {taken.reason}")
    for name, part in (("forward", "output"), ("gradients", "gradient")):
        worst = max(value for of, value in excesses.items() if part in of)
        detail = f"{PROBLEM.name}: at most {worst:.2g} of what rounding may do"
        yield Check(name, worst <= 1, detail)

    if taken.name == "op":
        inputs, kernel, bias, _ = PROBLEM.operands()
        together = _call(inputs, kernel, bias, "tanh")
        alone = _call(inputs[3:4], kernel, bias, "tanh")[0]
        same = bool(tf.reduce_all(alone == together[3]))
        yield Check("row invariance", same, "an input alone gives the bits it gives in company")
        compiled = tf.function(_call, jit_compile=True, autograph=False)
        error = max(PROBLEM.excesses(compiled, False).values())
        detail = f"{paths.last().reason}: at most {error:.2g} of what rounding may do"
        yield Check("XLA", error <= 1, detail)
        forward = _ratio(lambda *a: _call(*a, "relu"), inputs, kernel, bias)
        backward = _ratio(_gradients, inputs, kernel, bias)
        yield Check(
            "speed",
            None,
            f"{forward:.1f}x plain reuse forward, {backward:.1f}x with gradients (calls from "
            "Python; other work on the machine shows)",
        )
