"""Jacobians and Hessians, and tapes around vectorized gradients, of shared_matmul.

In float64, against TensorFlow's own ops differentiated in a loop.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf
from test_gradients import ACTIVATIONS, ZERO, agree, draw, plain, small, tensors
from test_selective import both

import shared_dense as sd

TIMES = 3


def not_empty(xs):
    """Those of `small` with rows: TensorFlow's own matmul loses the width of others here."""
    return [x for x in xs if x.shape[0]]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_jacobian(path, at_once, name):
    xs, kernel, bias, _, _ = small()
    sources = [*not_empty(xs), kernel, bias]

    def jacobians(apply, sources, **how):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(sources)
            outputs = apply(sources[:-2], *sources[-2:], name)
        found = [tape.jacobian(y, sources, unconnected_gradients=ZERO, **how) for y in outputs]
        return list(itertools.chain(*found))

    got = at_once(lambda *sources: jacobians(sd.shared_matmul, sources), *sources)

    agree(got, jacobians(plain, sources, experimental_use_pfor=False), 1)


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
def test_batch_jacobian(path, at_once, name):
    xs, kernel, bias, _, _ = small()
    x, other = tf.concat([xs[0], xs[1]], 0), xs[3]

    def jacobian(apply, x, **how):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = apply([other, x], kernel, bias, name)[1]
        return tape.batch_jacobian(y, x, **how)

    got = at_once(lambda x: jacobian(sd.shared_matmul, x), x)

    agree([got], [jacobian(plain, x, experimental_use_pfor=False)], 1)


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_hessian(path, at_once, name):
    xs, kernel, bias, dys, _ = small()
    sources, dys = [*not_empty(xs), kernel, bias], not_empty(dys)

    def hessian(apply, sources, **how):
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(sources)
            with tf.GradientTape() as inner:
                inner.watch(sources)
                outputs = apply(sources[:-2], *sources[-2:], name)
            gradients = inner.gradient(outputs, sources, output_gradients=dys)
        found = [outer.jacobian(g, sources, unconnected_gradients=ZERO, **how) for g in gradients]
        return list(itertools.chain(*found))

    got = at_once(lambda *sources: hessian(sd.shared_matmul, sources), *sources)

    agree(got, hessian(plain, sources, experimental_use_pfor=False), 2)


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        *((name, "one") for name in ACTIVATIONS),
        ("linear", "each"),
        ("tanh", "each"),
        ("gelu", "each"),
    ],
)
def test_a_tape_around_gradients_of_each_example(path, at_once, name, kernels):
    """As a penalty on them needs: no derivative is lost in what the forward op has cached.

    Inputs choose their bias, and whether they train the kernel: one kernel, or each example's own.
    """
    rng = np.random.default_rng(5)  # one for all, of which some units are alive
    front = () if kernels == "one" else (TIMES,)
    shapes = [(1, 3), (1, 3), (1, 3), (2, 1, 3)]
    n = len(shapes)
    xs = [draw(rng, TIMES, *shape, dtype="float64") for shape in shapes]
    dys = [draw(rng, TIMES, *shape[:-1], 2, dtype="float64") for shape in shapes]
    kernel = draw(rng, *front, 3, 2, dtype="float64")
    biases = [draw(rng, 2, dtype="float64") for _ in "ab"]
    sources = tensors([*xs, kernel, *biases])
    vs = tensors(draw(rng, TIMES, *s, dtype="float64") for s in (*shapes, (3, 2), (2,), (2,)))
    shared = {n + 1, n + 2} | ({n} if kernels == "one" else set())
    ours, theirs = both("some", name)

    def second(gradients_of_each, sources):
        with tf.GradientTape() as tape:
            tape.watch(sources)
            first = gradients_of_each(sources)
        found = tape.gradient(first, sources, output_gradients=vs, unconnected_gradients=ZERO)
        # Of what is one for all: the mean of what the examples say, within the bound of one.
        return [g / (TIMES if i in shared else 1) for i, g in enumerate(found)]

    def gradients(apply, xs, dys, kernel, biases):
        sources = [*xs, kernel, *biases]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = apply(xs, kernel, biases)
        return tape.gradient(outputs, sources, output_gradients=dys)

    def vectorized(sources):
        xs, kernel, biases = sources[:n], sources[n], sources[n + 1 :]
        if kernels == "one":
            return tf.vectorized_map(
                lambda e: gradients(ours, *e, kernel, biases), (xs, tensors(dys))
            )
        return tf.vectorized_map(lambda e: gradients(ours, *e, biases), (xs, tensors(dys), kernel))

    def loop(sources):
        kernel, biases = sources[n], sources[n + 1 :]
        each = [
            gradients(
                theirs,
                [x[i] for x in sources[:n]],
                [dy[i] for dy in dys],
                kernel if kernels == "one" else kernel[i],
                biases,
            )
            for i in range(TIMES)
        ]
        return [tf.stack(found) for found in zip(*each, strict=True)]

    got = at_once(lambda *sources: second(vectorized, sources), *sources)

    agree(got, second(loop, sources), 2)


def test_the_kernel_is_constant_for_those_that_do_not_train_it(path, at_once):
    """Also where gradients are asked for, or pre-activations made again, of some inputs only."""
    xs, kernel, bias, dys, vs = small()
    other, x, dy = xs[1], tf.stack([xs[0], -xs[0]]), dys[0]
    along = tf.stack([vs[0], vs[0]]) / 2  # half of each of two: within the bound of one

    def second(gradient_of_each, x, kernel, bias):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel, bias])
            first = gradient_of_each(x, kernel, bias)
        return first, tape.gradient(
            first, [x, kernel, bias], output_gradients=along, unconnected_gradients=ZERO
        )

    def gradient(apply, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = apply(x)
        return tape.gradient(y, x, output_gradients=dy)

    def vectorized(x, kernel, bias):
        def ours(x):
            names, trains = ["linear", "gelu"], [True, False]
            return sd.shared_matmul([other, x], kernel, bias, names, trains_kernel=trains)[1]

        return tf.vectorized_map(lambda x: gradient(ours, x), x)

    def loop(x, kernel, bias):
        kernel = tf.stop_gradient(kernel)
        each = [gradient(lambda x: plain([x], kernel, bias, "gelu")[0], x[i]) for i in range(2)]
        return tf.stack(each)

    got = at_once(lambda *sources: second(vectorized, *sources), x, kernel, bias)

    wanted = second(loop, x, kernel, bias)
    assert not np.any(wanted[1][1])
    agree([got[0]], [wanted[0]], 1)
    agree(got[1], wanted[1], 2)
