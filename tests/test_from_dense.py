"""From Dense to SharedDense and back: layers, and checkpoints that Dense wrote."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from exact import assert_equal, set_whole_weights, whole

import shared_dense as sd
from shared_dense.runtime import paths

K, U = 8, 4


@pytest.fixture(autouse=True)
def _no_call_yet(monkeypatch):
    """`path` looks at the latest call: not at one of another test."""
    monkeypatch.setattr(paths, "_last", None)


def quantized(mode):
    return lambda layer: layer.quantize(mode)


def with_lora(layer):
    layer.enable_lora(2, lora_alpha=6)


def quantized_with_lora(mode):
    def change(layer):
        layer.quantize(mode)
        layer.enable_lora(2, lora_alpha=6)

    return change


def nothing(layer):
    pass


KINDS = {
    "plain": ({"activation": "relu"}, nothing),
    "no bias": ({"use_bias": False}, nothing),
    "everything": (
        {
            "activation": "relu6",
            "kernel_initializer": "he_normal",
            "kernel_regularizer": "l1",
            "bias_regularizer": "l2",
            "activity_regularizer": "l1",
            "bias_constraint": "non_neg",
            "dtype": "mixed_bfloat16",
            "trainable": False,
        },
        nothing,
    ),
    "lora": ({"lora_rank": 3}, nothing),
    "lora later": ({}, with_lora),
    **{mode: ({}, quantized(mode)) for mode in ("int8", "int4", "float8")},
    "int8 at first": ({"dtype": "int8_from_float32"}, nothing),
    "int8 and lora": ({}, quantized_with_lora("int8")),
    "int4 and lora": ({"dtype": "int4/2_from_float32"}, with_lora),
}


def make(rng, kind, cls=keras.layers.Dense):
    kwargs, change = KINDS[kind]
    layer = cls(U, name="encoder", **kwargs)
    layer.build((None, K))
    if not layer.quantization_mode:
        set_whole_weights(rng, layer)
    change(layer)
    if layer.lora_enabled:  # which begins as nothing
        layer.lora_kernel_a.assign(whole(rng, *layer.lora_kernel_a.shape))
        layer.lora_kernel_b.assign(whole(rng, *layer.lora_kernel_b.shape))
    return layer


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(path, rng, kind):
    dense = make(rng, kind)
    shared = sd.SharedDense.from_dense(dense)
    back = shared.to_dense()
    assert type(shared) is sd.SharedDense and type(back) is keras.layers.Dense
    assert shared.get_config() == back.get_config() == dense.get_config()
    x = [whole(rng, 3, K), whole(rng, 2, 4, K)]
    wanted = [dense(part) for part in x]
    assert_equal(shared(x), wanted)
    assert_equal([back(part) for part in x], wanted)
    for layer in (shared, back):
        assert sorted(w.path for w in layer.weights) == sorted(w.path for w in dense.weights)
        assert len(layer.trainable_weights) == len(dense.trainable_weights)
        for weight in layer.weights:  # copies, not the same
            weight.assign(np.ones(weight.shape))
    assert_equal([dense(part) for part in x], wanted)


def test_an_activation_that_is_a_layer(path, rng):
    dense = keras.layers.Dense(U, keras.layers.PReLU())
    x = whole(rng, 3, K)
    dense(x)  # which makes all weights
    set_whole_weights(rng, dense)
    shared = sd.SharedDense.from_dense(dense)
    assert_equal(shared([x])[0], dense(x))
    assert_equal(shared.to_dense()(x), dense(x))
    # A table has some, too.
    layer = sd.SharedDense(U, branches={"a": {"activation": keras.layers.PReLU()}, "b": {}})
    x = {"a": x, "b": x}
    layer(x)
    set_whole_weights(rng, layer)
    assert_equal(sd.SharedDense.from_dense(layer)(x), layer(x))


def test_a_layer_that_is_not_built_stays_so():
    shared = sd.SharedDense.from_dense(keras.layers.Dense(U, name="encoder"))
    assert not shared.built and not shared.to_dense().built and shared.name == "encoder"


def test_what_is_shared_already(path, rng):
    shared = make(rng, "plain", sd.SharedDense)
    assert_equal(sd.SharedDense.from_dense(shared).get_weights(), shared.get_weights())


class Squared(keras.layers.Dense):
    def call(self, inputs, training=None):
        return super().call(inputs) ** 2


@pytest.mark.parametrize("layer", [None, keras.layers.ReLU(), Squared(3), keras.layers.Dense])
def test_only_dense_is_taken(layer):
    with pytest.raises(TypeError, match=r"from_dense takes a keras\.layers\.Dense, got "):
        sd.SharedDense.from_dense(layer)


def trained_with_dense():
    """A Siamese network as one writes it with Dense."""
    left, right = keras.Input((K,)), keras.Input((K,))
    encoder = keras.layers.Dense(U, activation="relu", name="encoder")
    distance = keras.layers.Subtract()([encoder(left), encoder(right)])
    return keras.Model([left, right], keras.layers.Dense(1, name="head")(distance))


def with_shared_dense(encoder, head):
    inputs = [keras.Input((K,)), keras.Input((K,))]
    return keras.Model(inputs, head(keras.layers.Subtract()(encoder(inputs))))


@pytest.mark.filterwarnings("ignore:You are saving")
@pytest.mark.parametrize("how", ["model.keras", "model.h5", "model.weights.h5"])
def test_a_checkpoint_of_dense(path, rng, tmp_path, how):
    model = trained_with_dense()
    set_whole_weights(rng, model)
    if how == "model.weights.h5":
        model.save_weights(tmp_path / how)
        old = trained_with_dense()
        old.load_weights(tmp_path / how)
    else:
        model.save(tmp_path / how)
        old = keras.models.load_model(tmp_path / how, compile=False)
    new = with_shared_dense(
        sd.SharedDense.from_dense(old.get_layer("encoder")), old.get_layer("head")
    )
    x = [whole(rng, 3, K), whole(rng, 3, K)]
    assert_equal(new(x), model(x))
    # Or the whole model at once: the weights are as many, in the same order.
    fresh = with_shared_dense(
        sd.SharedDense(U, activation="relu"), keras.layers.Dense(1, name="head")
    )
    fresh.set_weights(old.get_weights())
    assert_equal(fresh(x), model(x))


def test_every_dense_of_a_model_replaced(path, rng):
    model = trained_with_dense()
    set_whole_weights(rng, model)

    def replace(layer):
        if type(layer) is keras.layers.Dense:
            return sd.SharedDense.from_dense(layer)
        return type(layer).from_config(layer.get_config())

    new = keras.models.clone_model(model, clone_function=replace)
    x = [whole(rng, 3, K), whole(rng, 3, K)]
    assert_equal(new(x), model(x))
    assert isinstance(new.get_layer("encoder"), sd.SharedDense)
    assert isinstance(new.get_layer("head"), sd.SharedDense)
