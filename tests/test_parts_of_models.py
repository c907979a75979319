"""One layer in two models that are parts of a third: what the documentation says of their files.

Keras counts the calls of a layer per model, and a layer that is in two models has those of both:
"Output ... is not connected", it says where the file holds the layer once. So it does for Dense.
"""

import keras
import numpy as np
import pytest

import shared_dense as sd

K, U = 5, 3
LAYERS = [sd.SharedDense, keras.layers.Dense]


def part(layer, name):
    x = keras.Input((K,), name=name)
    return keras.Model(x, layer(x), name=f"part_{name}")


def third(*parts):
    x, y = keras.Input((K,), name="x"), keras.Input((K,), name="y")
    return keras.Model([x, y], [parts[0](x), parts[-1](y)])


def in_two_parts(layer):
    return third(part(layer, "a"), part(layer, "b"))


def in_one_part(layer):
    return third(part(layer, "a"))


def in_the_outer_model(layer):
    inputs = [keras.Input((K,), name=name) for name in "xy"]
    return keras.Model(inputs, [layer(x) for x in inputs])


@pytest.fixture
def inputs(rng):
    return [rng.standard_normal((rows, K)).astype("float32") for rows in (4, 4)]


def saved_and_loaded(model, tmp_path, kind):
    model.save(tmp_path / f"model{kind}")
    return keras.models.load_model(tmp_path / f"model{kind}")


@pytest.mark.parametrize("kind", [".keras", ".h5"])
@pytest.mark.parametrize("make", [in_one_part, in_the_outer_model])
@pytest.mark.parametrize("layer", LAYERS)
def test_what_the_documentation_advises_is_saved_with_one_kernel(
    path, layer, make, kind, inputs, tmp_path
):
    model = make(layer(U))
    loaded = saved_and_loaded(model, tmp_path, kind)
    assert len(loaded.trainable_variables) == len(model.trainable_variables) == 2
    for a, b in zip(loaded.predict(inputs, verbose=0), model(inputs), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("layer", LAYERS)
def test_in_two_parts_the_keras_file_is_refused(path, layer, tmp_path):
    with pytest.raises(ValueError, match="could not be loaded"):
        saved_and_loaded(in_two_parts(layer(U)), tmp_path, ".keras")


@pytest.mark.parametrize("layer", LAYERS)
def test_in_two_parts_an_h5_file_has_two_kernels_of_the_same_values(path, layer, inputs, tmp_path):
    model = in_two_parts(layer(U))
    assert len(model.trainable_variables) == 2
    loaded = saved_and_loaded(model, tmp_path, ".h5")
    assert len(loaded.trainable_variables) == 4
    for a, b in zip(loaded.predict(inputs, verbose=0), model(inputs), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("layer", LAYERS)
def test_in_two_parts_the_weights_load_into_the_model_built_again(path, layer, inputs, tmp_path):
    model, again = in_two_parts(layer(U)), in_two_parts(layer(U))
    model.save_weights(tmp_path / "model.weights.h5")
    again.load_weights(tmp_path / "model.weights.h5")
    assert len(again.trainable_variables) == 2
    for a, b in zip(again.predict(inputs, verbose=0), model(inputs), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
