"""One tensor in two places of a call: second order, of which a tape would add both places up."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import shared_dense as sd


def plain(inputs, kernel, bias=None, activation=None):
    return [
        (activation or tf.identity)(tf.tensordot(x, kernel, 1) + (0 if bias is None else bias))
        for x in inputs
    ]


def added(product, a, b, w, c):
    """The gradients of both outputs are one tensor."""
    return tf.sin(sum(product([a, b], w, c, tf.nn.silu)))


def listed_twice(product, a, b, w, c):
    y, z, _ = product([a, a, b], w, c, tf.tanh)
    return tf.sin(y * z)


def chained(product, a, b, w, c):
    y = product([a, b], w, c, tf.tanh)[0]
    return tf.add_n(product([y, 2 * y, y], w, c))


def of_its_own_kernel(product, a, b, w, c):
    """The kernel is an input, too."""
    return tf.add_n(product([w, w], w, c, tf.tanh)) ** 2


def one_bias_listed(product, a, b, w, c):
    """The bias is a row of the inputs, too."""
    y, z = product([c, c], w, c, tf.nn.silu)
    return y * z + y


PROGRAMS = [added, listed_twice, chained, of_its_own_kernel, one_bias_listed]


def second(product, program, *sources):
    """The gradient of the squared norm of the gradient, and that gradient."""
    with tf.GradientTape() as outer:
        outer.watch(sources)
        with tf.GradientTape() as inner:
            inner.watch(sources)
            y = program(product, *sources)
        zero = tf.UnconnectedGradients.ZERO
        first = inner.gradient(y, sources, unconnected_gradients=zero)
        norm = tf.add_n([tf.reduce_sum(g * g) for g in first])
    return first, outer.gradient(norm, sources, unconnected_gradients=zero)


def partly_eager(product, program, *sources):
    """The inner gradient is a function, the outer tape is not in it."""

    @tf.function
    def first_of(*sources):
        with tf.GradientTape() as inner:
            inner.watch(sources)
            y = program(product, *sources)
        return inner.gradient(y, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    with tf.GradientTape() as outer:
        outer.watch(sources)
        first = first_of(*sources)
        norm = tf.add_n([tf.reduce_sum(g * g) for g in first])
    zero = tf.UnconnectedGradients.ZERO
    return first, outer.gradient(norm, sources, unconnected_gradients=zero)


def mapped(product, program, *sources):
    """For each of two inputs, all at once."""
    a, *others = sources
    return tf.vectorized_map(lambda a: second(product, program, a, *others), tf.stack([a, -a / 2]))


def one_by_one(product, program, *sources):
    a, *others = sources
    rounds = [second(product, program, a, *others) for a in (a, -a / 2)]
    return tf.nest.map_structure(lambda *values: tf.stack(values), *rounds)


# A traced function keeps its path: every test traces its own.
HOW = {
    "eager": (lambda: second, second),
    "function": (lambda: tf.function(second), second),
    "jit": (lambda: tf.function(second, jit_compile=True), second),
    "partly eager": (lambda: partly_eager, second),
    "vectorized": (lambda: mapped, one_by_one),
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("program", PROGRAMS)
def test_second_order(path, rng, how, program):
    sources = [tf.constant(rng.uniform(-1, 1, s)) for s in ((4, 4), (4, 4), (4, 4), (4,))]
    make, theirs = HOW[how]

    got = tf.nest.flatten(make()(sd.shared_matmul, program, *sources))

    wanted = tf.nest.flatten(theirs(plain, program, *sources))
    for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
        # A total in every place is off by as much as it is large.
        size = np.abs(b).max()
        np.testing.assert_allclose(a, b, 0, 1e-11 * max(size, 1), f"gradient {i}")
