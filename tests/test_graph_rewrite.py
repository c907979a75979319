"""TensorFlow's rewrite of graphs to bfloat16, which our ops join where a variable names them."""

import numpy as np
import pytest
import tensorflow as tf

import shared_dense as sd

REWRITE = "auto_mixed_precision_onednn_bfloat16"
LIST = "TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_ALLOWLIST_ADD"  # as the documentation has it
OURS = "SharedDense>SharedMatMul,SharedDense>SharedMatMulGrad"
K, UNITS = 67, 33


@pytest.fixture
def rewritten(monkeypatch):
    monkeypatch.delenv(LIST, raising=False)
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({REWRITE: True})
    yield
    tf.config.optimizer.set_experimental_options({REWRITE: before.get(REWRITE, False)})


@pytest.fixture
def operands(rng):
    draw = lambda *shape: tf.constant(rng.standard_normal(shape), tf.float32)  # noqa: E731
    return [draw(rows, K) for rows in (5, 1, 8)], draw(K, UNITS), draw(UNITS)


def step(xs, kernel, bias):
    """Outputs and gradients of a call."""
    with tf.GradientTape() as tape:
        tape.watch([xs, kernel, bias])
        ys = sd.shared_matmul(xs, kernel, bias, activation="relu")
    return [*ys, *tape.gradient(ys, [*xs, kernel, bias])]


def traced(xs, kernel, bias):
    """The same from a graph, optimized as the options say now."""
    return tf.function(step, autograph=False)(xs, kernel, bias)


def in_bfloat16(xs, kernel, bias):
    to = lambda x: tf.cast(x, tf.bfloat16)  # noqa: E731
    results = traced([to(x) for x in xs], to(kernel), to(bias))
    return [tf.cast(result, tf.float32) for result in results]


def same(a, b):
    return all(map(np.array_equal, a, b))


def test_named_in_the_list_our_ops_compute_in_bfloat16(rewritten, operands, monkeypatch):
    """With the bits of a call on bfloat16; TensorFlow's own products do so unnamed."""
    xs, kernel, _ = operands
    product = tf.function(lambda x, w: tf.matmul(x, w), autograph=False)(xs[0], kernel)
    if np.array_equal(product, tf.matmul(xs[0], kernel)):
        pytest.skip("TensorFlow rewrites no graph to bfloat16 on this processor")
    monkeypatch.setenv(LIST, OURS)
    found = traced(*operands)
    assert {y.dtype for y in found} == {tf.float32}
    assert sd.status().last_path == "op"
    assert same(found, in_bfloat16(*operands)) and not same(found, step(*operands))


def test_not_named_they_stay_as_they_are(rewritten, operands):
    assert same(traced(*operands), step(*operands))
    assert sd.status().last_path == "op"


def test_the_fallback_is_rewritten_as_any_product(rewritten, operands):
    """A sum of products of rounded operands, rounded; a rounded bias added to it, rounded."""
    xs, kernel, bias = operands
    with sd.fallback():
        found, exact = traced(*operands), step(*operands)
    for x, a, b in zip(xs, found[:3], exact[:3], strict=True):
        summed = np.abs(x) @ np.abs(kernel) + np.abs(bias)
        assert np.all(np.abs(a - b) <= 4.1 * 2.0**-8 * summed)
    if np.array_equal(found[0], exact[0]):
        pytest.skip("TensorFlow rewrites no graph to bfloat16 on this processor")
