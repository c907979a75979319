"""A TransposedDense's tie, when models are saved, loaded and copied: what keeps it."""

from __future__ import annotations

import copy
import subprocess

import keras
import numpy as np
import pytest
import warm
from exact import assert_equal, set_whole_weights, whole

import shared_dense as sd

K, U = 6, 4
BOTH = [sd.SharedDense, keras.layers.Dense]


def functional(encoder):
    x = keras.Input((K,))
    return keras.Model(x, sd.TransposedDense(encoder, activation="relu")(encoder(x)))


def sequential(encoder):
    return keras.Sequential([keras.Input((K,)), encoder, sd.TransposedDense(encoder)])


def sequential_without_input(encoder):
    model = keras.Sequential([encoder, sd.TransposedDense(encoder)])
    model(np.ones((1, K)))
    return model


def models_in_a_model(encoder):
    x, z = keras.Input((K,)), keras.Input((U,))
    halves = keras.Model(x, encoder(x)), keras.Model(z, sd.TransposedDense(encoder)(z))
    return keras.Model(x, halves[1](halves[0](x)))


def encoder_in_a_model(encoder):
    x = keras.Input((K,))
    return keras.Model(x, sd.TransposedDense(encoder)(keras.Model(x, encoder(x))(x)))


def side_by_side(encoder):
    # In files the decoder comes first, by its name and its place.
    x, z = keras.Input((K,)), keras.Input((U,))
    code = encoder(x)
    return keras.Model([z, x], [sd.TransposedDense(encoder, name="a")(z), code])


@keras.saving.register_keras_serializable(package="test_transposed_dense")
class Subclassed(keras.Model):
    def __init__(self, encoder, decoder=None, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder or sd.TransposedDense(encoder)

    def call(self, inputs):
        return self.decoder(self.encoder(inputs))

    def get_config(self):
        layers = {"encoder": self.encoder, "decoder": self.decoder}
        layers = {k: keras.saving.serialize_keras_object(v) for k, v in layers.items()}
        return {**super().get_config(), **layers}

    @classmethod
    def from_config(cls, config):
        layers = {
            k: keras.saving.deserialize_keras_object(config[k]) for k in ("decoder", "encoder")
        }
        return cls(**{**config, **layers})


def subclassed(encoder):
    model = Subclassed(encoder)
    model(np.ones((1, K)))
    return model


MODELS = [
    functional,
    sequential,
    sequential_without_input,
    models_in_a_model,
    encoder_in_a_model,
    side_by_side,
    subclassed,
]
# Copies made of configs find the other layer only where their inputs come through it.
FOUND_AGAIN = [functional, sequential, sequential_without_input, encoder_in_a_model]


def all_layers(model):
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from all_layers(layer)


def check_tie(model, original, rng):
    """Same numbers, one kernel, and it is the encoder's that the decoder uses."""
    layers = {type(layer): layer for layer in all_layers(model)}
    (decoder,) = (layer for layer in layers.values() if isinstance(layer, sd.TransposedDense))
    (encoder,) = (layer for layer in layers.values() if isinstance(layer, keras.layers.Dense))
    assert decoder.tied_to is encoder
    assert len(model.weights) == len(model.trainable_weights) == 3
    two = len(getattr(original, "outputs", ())) == 2
    x = [whole(rng, 3, U), whole(rng, 3, K)] if two else whole(rng, 3, K)
    assert_equal(model(x), original(x))
    encoder.kernel.assign(encoder.kernel + 1)
    original_encoder = decoder_of(original).tied_to
    original_encoder.kernel.assign(original_encoder.kernel + 1)
    assert_equal(model(x), original(x))


def decoder_of(model):
    return next(layer for layer in all_layers(model) if isinstance(layer, sd.TransposedDense))


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("how", ["keras", "weights", "deepcopy"])
def test_files_keep_the_tie(rng, tmp_path, how, make, cls):
    model = make(cls(U, name="encoder"))
    set_whole_weights(rng, model)
    if how == "keras":
        model.save(tmp_path / "model.keras")
        other = keras.models.load_model(tmp_path / "model.keras")
    elif how == "deepcopy":
        other = copy.deepcopy(model)
    else:
        model.save_weights(tmp_path / "model.weights.h5")
        other = make(cls(U, name="encoder"))
        other.load_weights(tmp_path / "model.weights.h5")
    check_tie(other, model, rng)


@pytest.mark.filterwarnings("ignore:You are saving")
@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("make", FOUND_AGAIN)
@pytest.mark.parametrize("how", ["h5", "json", "clone", "config"])
def test_copies_of_configs_are_tied_again(rng, tmp_path, how, make, cls):
    model = make(cls(U, name="encoder"))
    set_whole_weights(rng, model)
    if how == "h5":
        model.save(tmp_path / "model.h5")
        other = keras.models.load_model(tmp_path / "model.h5", compile=False)
    else:
        other = {
            "json": lambda: keras.models.model_from_json(model.to_json()),
            "clone": lambda: keras.models.clone_model(model),
            "config": lambda: type(model).from_config(model.get_config()),
        }[how]()
        other.set_weights(model.get_weights())
    other.save(tmp_path / "again.keras")
    check_tie(keras.models.load_model(tmp_path / "again.keras"), copy.deepcopy(model), rng)
    check_tie(other, model, rng)


@pytest.mark.parametrize("make", [models_in_a_model, side_by_side, subclassed])
def test_a_copy_that_cannot_be_tied_again_says_so(make):
    model = make(sd.SharedDense(U, name="encoder"))
    with pytest.warns(UserWarning, match="no layer 'encoder' that it could be tied to again"):
        other = keras.models.clone_model(model)
        if make is subclassed:
            other(np.ones((1, K)))
    assert len(other.weights) == 5


ELSEWHERE = """
import sys
import numpy as np, keras, shared_dense
model = keras.models.load_model(f"{sys.argv[1]}/model.keras")
assert model.layers[-1].tied_to is model.layers[-2]
np.save(f"{sys.argv[1]}/y.npy", model(np.load(f"{sys.argv[1]}/x.npy")))
"""


def test_loaded_by_a_fresh_process(rng, tmp_path):
    model = functional(sd.SharedDense(U))
    set_whole_weights(rng, model)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x := whole(rng, 3, K))
    command = [*warm.python(), "-c", ELSEWHERE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_equal(np.load(tmp_path / "y.npy"), model(x).numpy())
