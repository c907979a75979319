"""Keras models under XLA: jit_compile True, "auto" and False train, evaluate and predict alike."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from oracle import gamma

import shared_dense as sd
from shared_dense.runtime import paths

STEPS = 6
WIDTH = 12


def siamese(layer):
    """Two views through one layer, and a head that compares them."""
    a, b = keras.Input((WIDTH,)), keras.Input((WIDTH,))
    u, v = layer([a, b])
    return keras.Model([a, b], keras.layers.Dense(1)(keras.layers.subtract([u, v])))


def shared():
    return sd.SharedDense(8, activation="tanh")


def branches():
    table = {"left": {}, "right": {"bias": None, "activation": "relu"}}
    layer = sd.SharedDense(8, activation="gelu", branches=table)
    return lambda xs: layer(dict(zip(table, xs, strict=True))).values()


def tied():
    """Down by a layer and up again by its transpose."""
    down = sd.SharedDense(5, activation="silu")
    up = sd.TransposedDense(tied_to=down, activation="sigmoid")
    return lambda xs: up(down(xs))


MODELS = {"shared": shared, "branches": branches, "tied": tied}


class Losses(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.found = []

    def on_train_batch_end(self, batch, logs=None):
        self.found.append(logs["loss"])


def trained(make, jit_compile, xs, y):
    """Losses of every step, and what evaluate and predict then say."""
    keras.utils.set_random_seed(1)
    model = siamese(make())
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse", jit_compile=jit_compile)
    losses = Losses()
    # The last batch is smaller: another program.
    model.fit(xs, y, batch_size=7, shuffle=False, verbose=0, callbacks=[losses])
    taken = paths.last()
    return losses.found, model.evaluate(xs, y, verbose=0), model.predict(xs, verbose=0), taken


@pytest.fixture
def data(rng):
    rows = 7 * STEPS - 3
    xs = [rng.standard_normal((rows, WIDTH)).astype("float32") for _ in range(2)]
    return xs, rng.standard_normal((rows, 1)).astype("float32")


@pytest.mark.parametrize("name", MODELS)
def test_models_train_alike(path, data, name):
    plain = trained(MODELS[name], False, *data)
    assert len(plain[0]) == STEPS
    for jit_compile in (True, "auto"):
        losses, loss, predicted, taken = trained(MODELS[name], jit_compile, *data)
        assert taken.name == path
        # On a machine without a GPU "auto" is False.
        compiled = jit_compile is True
        assert taken.reason.endswith("compiled by XLA") == (compiled and path == "op")
        # Sums of at most 39 rows of 12 and 8 products, in values of order one, through 6 steps.
        bound = STEPS * gamma(39 + WIDTH + 8, "float32") * (10 if compiled else 0)
        np.testing.assert_allclose(losses, plain[0], rtol=bound)
        np.testing.assert_allclose(loss, plain[1], rtol=bound)
        np.testing.assert_allclose(predicted, plain[2], atol=bound * np.abs(plain[2]).max())


def test_mixed_precision(path, data):
    """The product computes in bfloat16 in both, with the same roundings."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        plain, compiled = (trained(shared, jit, *data) for jit in (False, True))
    finally:
        keras.config.set_dtype_policy("float32")
    assert compiled[3].name == path
    if path == "op":
        assert "bfloat16" in compiled[3].reason
    # Values of order one with 8 bits; XLA may leave out roundings between the ops it fuses.
    np.testing.assert_allclose(compiled[0], plain[0], rtol=STEPS * 2.0**-7)


def test_keras_may_choose_xla():
    """`supports_jit` of one layer decides for the whole model."""
    assert shared().supports_jit
    assert sd.TransposedDense(tied_to=shared()).supports_jit


def test_compiled_predictions_of_a_reloaded_model(path, data, tmp_path):
    xs, y = data
    model = siamese(shared())
    model.compile("sgd", "mse", jit_compile=True)
    model.fit(xs, y, verbose=0)
    file = tmp_path / "model.keras"
    model.save(file)
    again = keras.models.load_model(file)
    assert again.jit_compile is True
    np.testing.assert_array_equal(again.predict(xs, verbose=0), model.predict(xs, verbose=0))


def test_gradient_tape_in_a_compiled_step(path, data):
    """A training loop of one's own."""
    xs, _ = data
    keras.utils.set_random_seed(2)
    layer = shared()
    layer.build((None, WIDTH))
    start = [w.numpy() for w in layer.weights]

    def steps(**options):
        layer.set_weights(start)
        optimizer = keras.optimizers.Adam()
        optimizer.build(layer.trainable_variables)

        @tf.function(autograph=False, **options)
        def step(*xs):
            with tf.GradientTape() as tape:
                u, v = layer(list(xs))
                loss = tf.reduce_mean((u - v) ** 2)
            optimizer.apply(tape.gradient(loss, layer.trainable_variables))
            return loss

        return [float(step(*xs)) for _ in range(STEPS)]

    np.testing.assert_allclose(
        steps(jit_compile=True), steps(), rtol=10 * STEPS * gamma(39 + WIDTH, "float32")
    )
