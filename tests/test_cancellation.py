"""Gradients that cancel between inputs: exactly 0, as with plain reuse, so that Adam stays put."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import shared_dense as sd

ROWS = [1, 2, 5, 31, 63, 64, 65, 128, 255, 256, 257, 300]
FEWER = [1, 63, 64, 256, 257]  # where each is compiled anew: on either side of a chunk
DTYPES = ["float32", "float64", "bfloat16", "float16"]


def draw(rng, *shape, dtype):
    return tf.cast(tf.constant(rng.uniform(-1, 1, shape)), dtype)


@pytest.fixture(params=["eager", "function", "jit"])
def made(request):
    """Runs a function eagerly, traced once for any number of rows, or compiled for each."""
    return {
        "eager": lambda f: f,
        "function": tf.function(reduce_retracing=True),
        "jit": tf.function(jit_compile=True),
    }[request.param]


@pytest.fixture
def rows_to_try(request):
    return FEWER if "jit" in request.node.callspec.id else ROWS


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bias_that_both_inputs_use(path, made, rows_to_try, rng, dtype):
    """Of a loss on a - b, whose gradients are each other's negative, at any number of rows."""

    @made
    def gradient(a, b, kernel, bias, scale):
        with tf.GradientTape() as tape:
            tape.watch(bias)
            first, second = sd.shared_matmul([a, b], kernel, bias)
            loss = tf.reduce_sum(tf.cast(scale, first.dtype) * tf.sin(first - second))
        return tape.gradient(loss, bias)

    for rows in rows_to_try:
        a, b = (draw(rng, rows, 9, dtype=dtype) for _ in range(2))
        kernel, bias = draw(rng, 9, 70, dtype=dtype), draw(rng, 70, dtype=dtype)
        found = gradient(a, b, kernel, bias, draw(rng, rows, 70, dtype=dtype))
        # Compiled by XLA, TensorFlow's own sums of half types round where they please.
        ours = path == "op" or dtype in ("float32", "float64")
        bound = 0 if ours else rows * 2.0**-7
        np.testing.assert_allclose(tf.cast(found, tf.float64), np.zeros(70), 0, bound)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transposed", [False, True])
def test_a_kernel_under_equal_rows(path, made, rows_to_try, rng, transposed, dtype):
    """From 64 rows on."""

    @made
    def gradient(x, kernel, dy):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            ys = sd.shared_matmul([x, x], kernel, transpose_kernel=transposed)
        return tape.gradient(ys, kernel, output_gradients=[dy, -dy])

    for rows in [r for r in rows_to_try if r >= 64]:
        x, dy = draw(rng, rows, 40, dtype=dtype), draw(rng, rows, 70, dtype=dtype)
        kernel = draw(rng, *((70, 40) if transposed else (40, 70)), dtype=dtype)
        found = tf.cast(gradient(x, kernel, dy), tf.float64)
        np.testing.assert_array_equal(found, np.zeros(kernel.shape), f"{rows} rows")


def test_branches_that_share_a_bias(path, made, rows_to_try, rng):
    """Others, with biases of their own, between them."""
    table = {"a": {}, "other": {"bias": "other"}, "b": {"kernel": "kernel"}, "none": {"bias": None}}
    layer = sd.SharedDense(20, branches=table, bias_initializer="normal")
    layer.build(dict.fromkeys(table, (None, 9)))
    both = [layer.biases["bias"].value, layer.biases["other"].value]

    @made
    def gradients(inputs):
        with tf.GradientTape() as tape:
            ys = layer(inputs)
            loss = tf.reduce_sum((ys["a"] - ys["b"]) ** 2)
            loss += tf.reduce_sum(ys["other"] ** 2) + tf.reduce_sum(ys["none"] ** 2)
        return tape.gradient(loss, both)

    for rows in rows_to_try:
        found = gradients({name: draw(rng, rows, 9, dtype="float32") for name in table})
        np.testing.assert_array_equal(found[0], np.zeros(20), f"{rows} rows")
        assert np.abs(found[1]).min() > 0


def test_sums_are_added_in_order(path, rng):
    """As in TensorFlow's graphs, which sort what they add: where it rounds, the order matters."""
    kernel, bias = tf.zeros([2, 3]), tf.zeros([3])
    scales = np.float32([[1, 1e8, 1e8], [1e8, 1, -1e8], [-1e8, -1e8, 1]])

    def plain(inputs, kernel, bias):
        return [tf.matmul(x, kernel) + bias for x in inputs]

    def gradient(product):
        @tf.function
        def ask(x, kernel, bias):
            with tf.GradientTape() as tape:
                tape.watch(bias)
                ys = product([x] * 3, kernel, bias)
                loss = sum(tf.reduce_sum(y * s) for y, s in zip(ys, scales, strict=True))
            return tape.gradient(loss, bias)

        return ask(tf.zeros([1, 2]), kernel, bias)

    np.testing.assert_array_equal(gradient(sd.shared_matmul), [0, 0, 1])
    np.testing.assert_array_equal(gradient(plain), [0, 0, 1])


def trained(encoder, a, b, same):
    """The weights of a Siamese encoder after some steps of Adam, contrastive loss on a - b."""
    optimizer = keras.optimizers.Adam()

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            left, right = encoder([a, b])
            squared = tf.reduce_sum(tf.square(left - right), 1)
            lacking = tf.maximum(1 - tf.sqrt(squared + 1e-9), 0)
            loss = tf.reduce_mean(tf.where(same, squared, lacking**2))
        weights = encoder.trainable_variables
        optimizer.apply(tape.gradient(loss, weights), weights)

    optimizer.build(encoder.trainable_variables)
    for _ in range(20):
        step()
    return encoder.get_weights()


def test_adam_leaves_a_bias_that_no_distance_sees(path, rng):
    """The last one of a Siamese net; the other weights are those of Dense."""
    a, b = (draw(rng, 64, 30, dtype="float32") for _ in range(2))
    same = tf.constant(rng.random(64) < 0.5)

    def encoder(layers):
        inputs = [keras.Input((30,)) for _ in range(2)]
        outputs = inputs
        for layer in layers:
            shared = isinstance(layer, sd.SharedDense)
            outputs = layer(outputs) if shared else [layer(x) for x in outputs]
        return keras.Model(inputs, outputs)

    nets = []
    for cls in (sd.SharedDense, keras.layers.Dense):
        keras.utils.set_random_seed(3)
        nets.append(encoder([cls(40, activation="tanh"), cls(16)]))
    nets[1].set_weights(nets[0].get_weights())

    ours, wanted = (trained(net, a, b, same) for net in nets)

    np.testing.assert_array_equal(ours[-1], np.zeros(16))
    for mine, theirs in zip(ours, wanted, strict=True):
        # A step of Adam is 0.001 whatever the gradient's size: one that should be 0 shows at once.
        np.testing.assert_allclose(mine, theirs, 0, 1e-4)
