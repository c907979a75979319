"""Sizes that only the compiled code knows: those of what a mask or `tf.where` picks."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import shared_dense as sd
from shared_dense.runtime import paths

MASK = tf.constant([True, False, True, True, False, True])


def draw(rng, *shape, dtype="float64"):
    return tf.cast(tf.constant(rng.uniform(-2, 2, shape)), dtype)


def with_gradients(product, picks, sources):
    """The outputs, and the gradients of a loss of them, for what `picks` makes of the sources."""
    with tf.GradientTape() as tape:
        tape.watch(sources)
        ys = product(*picks(*sources))
        loss = tf.add_n([tf.reduce_sum(y * y) for y in ys])
    return [*ys, *tape.gradient(loss, sources)]


def plain(activation, transposed=False):
    def product(xs, kernel, bias):
        w = tf.transpose(kernel) if transposed else kernel
        return [activation(tf.tensordot(x, w, 1) + bias) for x in xs]

    return product


def check(ours, theirs, picks, sources, tolerance=1e-12):
    compiled = tf.function(
        lambda *s: with_gradients(ours, picks, s), jit_compile=True, autograph=False
    )
    got = compiled(*sources)
    assert paths.last().name == "op"
    for i, (a, b) in enumerate(zip(got, with_gradients(theirs, picks, sources), strict=True)):
        assert a.shape == b.shape, f"result {i}"
        np.testing.assert_allclose(
            a, b, tolerance, tolerance * np.abs(b).max(initial=1), err_msg=f"result {i}"
        )


@pytest.fixture(params=["core", "dot"])
def lowering(request, monkeypatch):
    """What XLA makes of the op where sizes are known, which these are not."""
    assert sd.status().xla == ""
    monkeypatch.setenv("SHARED_DENSE_XLA", request.param)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", ["linear", "tanh", "silu"])
def test_rows_that_a_mask_picks(lowering, rng, name, transposed):
    """The first input is shorter than its bound, so that those after it begin earlier, too."""
    activation = {"linear": tf.identity, "tanh": tf.tanh, "silu": tf.nn.silu}[name]
    a, b, c = draw(rng, 6, 5), draw(rng, 6, 2, 5), draw(rng, 5)
    kernel = draw(rng, *((4, 5) if transposed else (5, 4)))

    def picks(a, b, c, kernel, bias):
        return [tf.boolean_mask(a, MASK), b, tf.boolean_mask(b, ~MASK), c], kernel, bias

    def ours(xs, kernel, bias):
        return sd.shared_matmul(xs, kernel, bias, name, transpose_kernel=transposed)

    check(ours, plain(activation, transposed), picks, [a, b, c, kernel, draw(rng, 4)])


def test_a_mask_over_an_inner_axis(lowering, rng):
    def picks(x, kernel, bias):
        return [tf.boolean_mask(x, MASK, axis=1), x], kernel, bias

    def ours(xs, kernel, bias):
        return sd.shared_matmul(xs, kernel, bias, "gelu_tanh")

    theirs = plain(lambda z: 0.5 * z * (1 + tf.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))))
    check(ours, theirs, picks, [draw(rng, 3, 6, 5), draw(rng, 5, 4), draw(rng, 4)])


def test_nothing_is_picked(lowering, rng):
    def picks(x, kernel, bias):
        return [tf.boolean_mask(x, x[:, 0] > 9), x], kernel, bias

    def ours(xs, kernel, bias):
        return sd.shared_matmul(xs, kernel, bias)

    check(ours, plain(tf.identity), picks, [draw(rng, 6, 5), draw(rng, 5, 4), draw(rng, 4)])


def test_widths_and_units_that_masks_pick(lowering, rng):
    """A kernel that is pruned as it runs."""

    def picks(x, kernel, bias):
        kernel = tf.boolean_mask(kernel, MASK)
        xs = [tf.boolean_mask(x, MASK, axis=1), tf.boolean_mask(x[0], MASK)]
        return xs, tf.boolean_mask(kernel, MASK, axis=1), tf.boolean_mask(bias, MASK)

    def ours(xs, kernel, bias):
        return sd.shared_matmul(xs, kernel, bias, "tanh")

    check(ours, plain(tf.tanh), picks, [draw(rng, 3, 6), draw(rng, 6, 6), draw(rng, 6)])


def test_what_takes_no_part_in_gradients(lowering, rng):
    """A bias of one input, and a kernel that only the dynamic input trains."""

    def picks(x, kernel, bias):
        return [x, tf.boolean_mask(x, MASK)], kernel, bias

    def ours(xs, kernel, bias):
        return sd.shared_matmul(xs, kernel, [None, bias], trains_kernel=[False, True])

    def theirs(xs, kernel, bias):
        return [xs[0] @ tf.stop_gradient(kernel), xs[1] @ kernel + bias]

    check(ours, theirs, picks, [draw(rng, 6, 5), draw(rng, 5, 4), draw(rng, 4)])


def test_half_types_are_summed_in_float32(lowering, rng):
    def picks(x, kernel, bias):
        return [tf.boolean_mask(x, MASK), x], kernel, bias

    def ours(xs, kernel, bias):
        return sd.shared_matmul(xs, kernel, bias, "tanh")

    sources = [draw(rng, 6, 200, dtype="bfloat16"), draw(rng, 200, 4, dtype="bfloat16") / 16]
    sources.append(draw(rng, 4, dtype="bfloat16"))
    wide = tf.function(
        lambda *s: ours(*picks(*(tf.cast(t, "float64") for t in s))), autograph=False
    )
    got = tf.function(lambda *s: ours(*picks(*s)), jit_compile=True, autograph=False)(*sources)
    for a, b in zip(got, wide(*sources), strict=True):
        # |tanh| <= 1, rounded once to 8 bits.
        np.testing.assert_allclose(tf.cast(a, "float64"), b, rtol=0, atol=2.0**-9 + 1e-4)


def test_rows_have_the_bits_of_the_op(rng):
    """Where the core is called on what XLA has room for, Y and dX are those of the rows picked."""
    x, other = draw(rng, 6, 300, dtype="float32"), draw(rng, 2, 300, dtype="float32")
    kernel = draw(rng, 300, 70, dtype="float32")

    def both(rows):
        with tf.GradientTape() as tape:
            tape.watch(rows)
            ys = sd.shared_matmul([rows, other], kernel, activation="tanh")
            loss = tf.reduce_sum(ys[0] * ys[0])
        return ys[0], tape.gradient(loss, rows)

    compiled = tf.function(lambda x: both(tf.boolean_mask(x, MASK)), jit_compile=True)

    for got, wanted in zip(compiled(x), both(tf.boolean_mask(x, MASK)), strict=True):
        np.testing.assert_array_equal(got, wanted)
