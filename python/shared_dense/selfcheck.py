"""A ten-second check that the op is right and worth having, on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from shared_dense import ops, paths

ROWS, IN_FEATURES, UNITS = (8,) * 8, 1024, 1024
ROUNDS = 15


class Check(NamedTuple):
    """One line of the table; `passed` is None for a figure that nothing depends on."""

    name: str
    passed: bool | None
    detail: str


def _problem() -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(0)
    normal = lambda *shape: tf.constant(rng.standard_normal(shape), tf.float32)  # noqa: E731
    return [normal(n, IN_FEATURES) for n in ROWS], normal(IN_FEATURES, UNITS), normal(UNITS)


def _gradients(
    inputs: list[tf.Tensor], kernel: tf.Tensor, bias: tf.Tensor
) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch([inputs, kernel, bias])
        outputs = ops.shared_matmul(inputs, kernel, bias, "relu")
        total = tf.add_n([tf.reduce_sum(y * y) for y in outputs])
    return tape.gradient(total, [inputs, kernel, bias])


def _error(got: tf.Tensor, exact: np.ndarray) -> float:
    """Largest error, relative to the largest value."""
    return float(np.max(np.abs(got.numpy().astype(np.float64) - exact)) / np.max(np.abs(exact)))


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
    inputs, kernel, bias = _problem()
    x, w = np.concatenate(inputs).astype(np.float64), kernel.numpy().astype(np.float64)
    y = np.maximum(x @ w + bias.numpy(), 0)
    # Worst case over k products of float32: k times its unit roundoff.
    bound = IN_FEATURES * 2.0**-24

    got = ops.shared_matmul(inputs, kernel, bias, "relu")
    taken = paths.last()
    yield Check("path", taken is not None, f"{taken.name}: {taken.reason}")
    error = _error(tf.concat(got, 0), y)
    shape = f"{len(ROWS)} inputs of {ROWS[0]} rows, {IN_FEATURES} -> {UNITS}"
    yield Check("forward", error <= bound, f"{shape}: error {error:.1e} (bound {bound:.1e})")

    _, dw, db = _gradients(inputs, kernel, bias)
    errors = (_error(dw, x.T @ (2 * y)), _error(db, (2 * y).sum(0)))
    yield Check("gradients", max(errors) <= bound, f"kernel {errors[0]:.1e}, bias {errors[1]:.1e}")

    if taken.name == "op":
        alone = ops.shared_matmul(inputs[3:4], kernel, bias, "relu")[0]
        same = bool(tf.reduce_all(alone == got[3]))
        yield Check("row invariance", same, "an input alone gives the bits it gives in company")
        compiled = tf.function(ops.shared_matmul, jit_compile=True, autograph=False)
        error = _error(tf.concat(compiled(inputs, kernel, bias, "relu"), 0), y)
        yield Check("XLA", error <= bound, f"{paths.last().reason}: error {error:.1e}")
        forward = _ratio(lambda *a: ops.shared_matmul(*a, "relu"), inputs, kernel, bias)
        backward = _ratio(_gradients, inputs, kernel, bias)
        yield Check(
            "speed",
            None,
            f"{forward:.1f}x plain reuse forward, {backward:.1f}x with gradients (calls from "
            "Python; other work on the machine shows)",
        )
