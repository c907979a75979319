"""Models of the Keras before 3, whose graphs take shared_matmul and refuse the layers."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import shared_dense as sd

K, U = 4, 3


class Shared(tf_keras.layers.Layer):
    """The way that works: weights of a layer of that Keras."""

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(K, U))
        self.bias = self.add_weight(name="bias", shape=(U,), initializer="ones")

    def call(self, inputs):
        return sd.shared_matmul(inputs, self.kernel, self.bias, "relu")


def test_shared_matmul_trains_there(path, rng):
    a, b = tf_keras.Input((K,)), tf_keras.Input((2, K))
    layer = Shared()
    model = tf_keras.Model([a, b], layer([a, b]))
    model.compile(tf_keras.optimizers.SGD(0.1), "mse")
    xs = [rng.normal(size=shape).astype("float32") for shape in ((5, K), (5, 2, K))]
    kernel, bias = (w.numpy().astype("float64") for w in layer.trainable_weights)

    model.fit(xs, [np.zeros((5, U)), np.zeros((5, 2, U))], batch_size=5, verbose=0)

    with tf.GradientTape() as tape:
        plain = [tf.constant(kernel), tf.constant(bias)]
        tape.watch(plain)
        ys = [tf.nn.relu(tf.tensordot(tf.cast(x, "float64"), plain[0], 1) + plain[1]) for x in xs]
        loss = sum(tf.reduce_mean(y**2) for y in ys)
    gradients = tape.gradient(loss, plain)
    for weight, was, gradient in zip(layer.weights, (kernel, bias), gradients, strict=True):
        np.testing.assert_allclose(weight.numpy(), was - 0.1 * gradient, rtol=1e-5, atol=1e-6)


def test_shared_matmul_takes_its_symbolic_tensors(path, rng):
    a, b = tf_keras.Input((K,)), tf_keras.Input((K,))
    kernel = rng.normal(size=(K, U)).astype("float32")
    model = tf_keras.Model([a, b], sd.shared_matmul([a, b], tf.constant(kernel)))
    xs = [rng.normal(size=(5, K)).astype("float32") for _ in range(2)]
    for x, y in zip(xs, model.predict(xs, verbose=0), strict=True):
        np.testing.assert_allclose(y, x @ kernel, rtol=1e-5, atol=1e-6)


PLACES = "inputs", "inputs[1]", "inputs['b']"


@pytest.mark.parametrize(
    "make, where",
    [*itertools.product(("shared", "transposed"), PLACES), ("branches", PLACES[2])],
)
def test_the_layers_refuse_its_symbolic_tensors(make, where):
    branches = {"b": {}, "a": {}} if make == "branches" else None
    layer = sd.SharedDense(K, name="layer", branches=branches)
    if make == "transposed":
        layer.build((None, K))
        layer = sd.TransposedDense(layer, name="layer")
    theirs, ours = tf_keras.Input((K,)), keras.Input((K,))
    inputs = {"inputs": theirs, "inputs[1]": [ours, theirs]}.get(where, {"b": theirs, "a": ours})

    with pytest.raises(TypeError) as error:
        layer(inputs)

    for piece in ('layer "layer"', f"{where} is a symbolic tensor of tf_keras", "shared_matmul"):
        assert piece in str(error.value)
