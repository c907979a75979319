"""Whole numbers: float32 adds and multiplies small ones exactly, so nothing needs a bound."""

from __future__ import annotations

import numpy as np


def whole(rng, *shape):
    """Whole numbers from -3 to 3, as float32."""
    return rng.integers(-3, 4, shape).astype("float32")


def set_whole_weights(rng, *layers):
    """The same whole numbers for the weights of each layer or model."""
    weights = [whole(rng, *w.shape) for w in layers[0].weights]
    for layer in layers:
        layer.set_weights(weights)
    return weights


def assert_equal(got, wanted):
    """Equal structures of arrays, element by element."""
    import keras

    keras.tree.assert_same_structure(got, wanted)
    for a, b in zip(keras.tree.flatten(got), keras.tree.flatten(wanted), strict=True):
        np.testing.assert_array_equal(a, b)
