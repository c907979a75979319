"""TensorFlow's own checkpoints, which find a variable by the attributes that lead to it."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf
from numpy.testing import assert_array_equal

from shared_dense import Shared, SharedDense, TransposedDense

TABLE = {"a": {"kernel": "text"}, "b": {"bias": "own"}, "c": {"kernel": "text", "bias": None}}


def of_branches():
    layer = SharedDense(3, branches=TABLE)
    layer.build({"a": (None, 2), "b": (None, 4)})
    return layer


def with_lora():
    layer = SharedDense(3)
    layer.build((None, 2))
    layer.enable_lora(1)
    return layer


def tied():
    layer = TransposedDense(tied_to=SharedDense(3))
    layer.tied_to.build((None, 2))
    layer.build((None, 3))
    return layer


def shared():
    layer = Shared(keras.Sequential([keras.Input((4,)), SharedDense(3)]))
    layer.build((None, 4))
    return layer


def in_a_model():
    inputs = {"a": keras.Input((2,)), "b": keras.Input((4,))}
    return keras.Model(inputs, SharedDense(3, branches=TABLE)(inputs))


@pytest.mark.parametrize("made", [of_branches, with_lora, tied, shared, in_a_model])
def test_a_checkpoint_has_every_weight(made, path, rng, tmp_path):
    first, second = made(), made()
    assert len(first.weights) >= 2
    for weight in first.weights:
        weight.assign(rng.normal(size=weight.shape))
    tf.train.Checkpoint(it=first).write(tmp_path / "checkpoint")
    tf.train.Checkpoint(it=second).read(tmp_path / "checkpoint").assert_consumed()
    for one, other in zip(first.weights, second.weights, strict=True):
        assert_array_equal(one, other)
