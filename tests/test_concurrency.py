"""Calls from several threads at once give the bits of the same calls alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

import shared_dense as sd
from shared_dense import _core

CALLERS, ROUNDS = 4, 6
# Some serial, some for two threads, of several paths and scratch sizes.
SIZES = [
    ((8,) * 8, 700, 512),
    ((1, 1), 900, 1300),
    ((300, 1, 75), 67, 3),
    ((500, 300), 600, 301),
    ((4000, 1700), 61, 37),
]


def all_at_once(call, count):
    """Results of call(0) ... call(count - 1), made by threads that start together."""
    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(call, range(count)))


def bits(results):
    return [np.asarray(x).tobytes() for x in tf.nest.flatten(results)]


def problem(size):
    rows, k, u = size
    rng = np.random.default_rng(sum(rows) + k + u)
    normal = lambda *shape: tf.constant(rng.standard_normal(shape), tf.float32)  # noqa: E731
    return [normal(r, k) for r in rows], normal(k, u), normal(u)


def results(xs, kernel, bias):
    with tf.GradientTape() as tape:
        tape.watch([xs, kernel, bias])
        ys = sd.shared_matmul(xs, kernel, bias, "gelu")
    return ys, tape.gradient(ys, [xs, kernel, bias])


def test_calls_of_the_op(path, run):
    function = run(results)
    problems = [problem(size) for size in SIZES]
    alone = [bits(function(*p)) for p in problems]
    if path == "fallback":  # TensorFlow promises no bits; that ours do not interfere is the point
        got = all_at_once(lambda i: function(*problems[i % len(SIZES)]), 2 * len(SIZES))
        assert len(got) == 2 * len(SIZES)
        return
    got = all_at_once(lambda i: bits(function(*problems[i % len(SIZES)])), ROUNDS * len(SIZES))
    for i, result in enumerate(got):
        assert result == alone[i % len(SIZES)], f"call {i}, {SIZES[i % len(SIZES)]}"


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_calls_of_the_core_share_a_pool(threads):
    problems = [[np.asarray(x) for x in tf.nest.flatten(problem(size))] for size in SIZES]

    def call(i):
        *xs, kernel, bias = problems[i % len(SIZES)]
        ys, _ = _core.forward(xs, kernel, [bias], ["relu"], threads=threads)
        grads = _core.backward(
            xs, ys, ys, kernel, activations=["relu"], wants_dx=[True] * len(xs), dbias_count=1,
            threads=threads,
        )  # fmt: skip
        return bits([ys, grads["dx"], grads["dkernel"], grads["dbias"]])

    alone = [call(i) for i in range(len(SIZES))]
    for i, result in enumerate(all_at_once(call, ROUNDS * len(SIZES))):
        assert result == alone[i % len(SIZES)], f"call {i}, {SIZES[i % len(SIZES)]}"


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("items", [[5], [1, 1], [3, 0, 8], [20, 1, 2]], ids=str)
def test_a_caller_waits_for_no_helper_that_never_starts(items, threads):
    done = _core.stages_alone(items, threads)
    assert sorted(done) == [(s, i) for s, count in enumerate(items) for i in range(count)]
    assert [stage for stage, _ in done] == sorted(stage for stage, _ in done)


def test_an_unused_output_costs_the_others_nothing(path, run, rng):
    """Its zeros: exact zeros for its input, and the dW of a call without it, bit for bit.

    Zeros that come last in the stack end a chain of sums, and adding 0 changes no bit.
    """
    kernel = tf.constant(rng.standard_normal((37, 21)), tf.float32)
    xs = [tf.constant(rng.standard_normal((rows, 37)), tf.float32) for rows in (9, 5)]

    def gradients(count):
        with tf.GradientTape() as tape:
            tape.watch([xs, kernel])
            used = sd.shared_matmul(xs[:count], kernel, activation="tanh")[0]
            loss = tf.reduce_sum(used * used)
        return tape.gradient(
            loss, [*xs[:count], kernel], unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    with_unused, alone = run(gradients)(2), run(gradients)(1)
    assert not np.asarray(with_unused[1]).any()
    np.testing.assert_array_equal(with_unused[0], alone[0])
    if path == "op":
        np.testing.assert_array_equal(with_unused[2], alone[1])
