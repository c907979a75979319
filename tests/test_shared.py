"""Shared: any layer over several inputs, as that layer called on each of them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import shared_dense as sd

K = 4
RAGGED = {"query": (5, K), "items": [(3, K), (1, K)], "none": ((0, K),)}
LAYERS = {
    "LayerNormalization": lambda: keras.layers.LayerNormalization(),
    "BatchNormalization": lambda: keras.layers.BatchNormalization(momentum=0.5),
    "Activation": lambda: keras.layers.Activation("tanh"),
    "Dense": lambda: keras.layers.Dense(3),
    "Reshape": lambda: keras.layers.Reshape((2, 2)),
    "TimeDistributed": lambda: keras.layers.TimeDistributed(sd.SharedDense(3)),
    "SpectralNormalization": lambda: keras.layers.SpectralNormalization(sd.SharedDense(3)),
    "Sequential": lambda: keras.Sequential(
        [
            keras.Input((K,)),
            sd.SharedDense(6, activation="relu"),
            keras.layers.LayerNormalization(),
            sd.SharedDense(3),
        ]
    ),
}


def drawn(rng, shapes, inner=()):
    def draw(shape):
        return rng.normal(size=(shape[0], *inner, *shape[1:])).astype("float32")

    return keras.tree.map_shape_structure(draw, shapes)


def twins(make, shape):
    """Two layers of the same weights."""
    layers = make(), make()
    for layer in layers:
        if not layer.built:
            layer.build(shape)
    layers[1].set_weights(layers[0].get_weights())
    return layers


def assert_same(a, b, rtol=1e-6):
    keras.tree.assert_same_structure(a, b)
    for left, right in zip(keras.tree.flatten(a), keras.tree.flatten(b), strict=True):
        np.testing.assert_allclose(left, right, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_as_the_layer_called_on_each(path, rng, name, training):
    inner = (2,) if name == "TimeDistributed" else ()
    xs = drawn(rng, RAGGED if name != "BatchNormalization" else [(5, K), (3, K)], inner)
    ours, plain = twins(LAYERS[name], (None, *inner, K))

    found = sd.Shared(ours)(xs, training=training)

    wanted = keras.tree.map_structure(lambda x: plain(x, training=training), xs)
    assert_same(found, wanted)
    # What a call in training moves has been moved as often.
    assert_same(ours.get_weights(), plain.get_weights())


def test_batch_normalization_takes_each_input_by_itself(path):
    """In training; the moving statistics see one input after the other."""
    layer = keras.layers.BatchNormalization(momentum=0.5, epsilon=0, center=False, scale=False)
    a, b = np.float32([[0], [2]]), np.float32([[10], [50]])

    found = sd.Shared(layer)([a, b], training=True)

    assert_same(found, [np.float32([[-1], [1]])] * 2)
    np.testing.assert_allclose(layer.moving_mean, [0.5 * (0.5 * 1) + 0.5 * 30])


def test_dropout_draws_for_each(path):
    layer = sd.Shared(keras.layers.Dropout(0.5, seed=1))
    ones = np.ones((40, 40), "float32")
    a, b = (y.numpy() for y in layer([ones, ones], training=True))
    for y in (a, b):
        assert set(np.unique(y)) == {0, 2} and 0.4 < (y == 0).mean() < 0.6
    assert (a != b).any()
    assert_same(layer([ones, ones]), [ones, ones])


def test_masks(path, rng):
    tokens = keras.layers.Embedding(5, K, mask_zero=True)
    layer = sd.Shared(keras.layers.LSTM(3))
    ids = {"a": np.array([[1, 2, 0], [3, 0, 0]]), "b": np.array([[4, 4, 4]])}
    embedded = {name: tokens(value) for name, value in ids.items()}

    found = layer(embedded)

    assert_same(found, {name: layer.layer(value) for name, value in embedded.items()})
    cut = layer.layer(tokens(ids["a"][1:, :1]))  # the padding was no step
    np.testing.assert_allclose(found["a"][1:], cut, rtol=1e-5, atol=1e-6)
    bare = {name: tf.constant(value.numpy()) for name, value in embedded.items()}
    masks = {name: value != 0 for name, value in ids.items()}
    assert_same(layer(bare, mask=masks), found)
    passed_on = sd.Shared(keras.layers.Dropout(0.1))(embedded)
    for name, value in passed_on.items():
        np.testing.assert_array_equal(value._keras_mask, masks[name])


def tower(kind):
    parts = [
        sd.SharedDense(6, activation="relu", name="first"),
        keras.layers.Dropout(0.1),
        keras.layers.BatchNormalization(),
        sd.SharedDense(2, name="last"),
    ]
    if kind == "Shared(Sequential)":
        return sd.Shared(keras.Sequential([keras.Input((K,)), *parts]), name="tower")
    layers = [p if isinstance(p, sd.SharedDense) else sd.Shared(p) for p in parts]
    return keras.Sequential(layers, name="tower")


@pytest.mark.parametrize("kind", ["Shared(Sequential)", "Sequential of Shared"])
def test_towers_train_save_load_and_clone(path, rng, tmp_path, kind):
    inputs = {name: keras.Input((K,), name=name) for name in ("query", "item")}
    model = keras.Model(inputs, tower(kind)(inputs))
    x = {name: rng.normal(size=(8, K)).astype("float32") for name in inputs}
    y = {name: rng.normal(size=(8, 2)).astype("float32") for name in inputs}
    model.compile(keras.optimizers.SGD(0.1), "mse")
    losses = model.fit(x, y, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert len(model.trainable_weights) == 6 and len(model.weights) > 6
    found = model.predict(x, verbose=0)

    model.save(tmp_path / "model.keras")
    assert_same(keras.models.load_model(tmp_path / "model.keras").predict(x, verbose=0), found)
    model.save_weights(tmp_path / "model.weights.h5")
    clone = keras.models.clone_model(model)
    clone.load_weights(tmp_path / "model.weights.h5")
    assert_same(clone.predict(x, verbose=0), found)


def test_a_sequential_takes_fused_calls(path):
    """Of both inputs at once, where the layer is ours."""
    layer = tower("Shared(Sequential)")
    graph = tf.function(layer).get_concrete_function([tf.ones((2, K)), tf.ones((3, K))]).graph
    calls = [op for op in graph.get_operations() if op.type == "SharedDense>SharedMatMul"]
    assert [op.get_attr("N") for op in calls] == ([2, 2] if path == "op" else [])


def test_calls_of_any_size_in_a_functional_model(path, rng):
    q, p, n = (keras.Input((K,)) for _ in range(3))
    layer = sd.Shared(keras.layers.LayerNormalization())
    first = layer(q)
    rest = layer([p, n])
    model = keras.models.clone_model(keras.Model([q, p, n], [first, *rest]))
    xs = [rng.normal(size=(3, K)).astype("float32") for _ in range(3)]
    assert_same([np.array(y) for y in model(xs)], [np.array(layer.layer(x)) for x in xs])
    assert len(layer.output) == 2


def test_one_tensor_and_errors(path):
    layer = sd.Shared(keras.layers.LayerNormalization(), name="norm")
    for inputs, words in (
        ([], "holds no tensor"),
        ([np.ones((2, K)), None], r"inputs\[1\] is None"),
    ):
        with pytest.raises(ValueError, match=rf'Shared layer "norm": .*{words}'):
            layer(inputs)
    with pytest.raises(TypeError, match=r"layer\(\[a, b\]\)"):
        layer(np.ones((2, K)), np.ones((2, K)))
    assert layer(np.ones((2, K), "float32")).shape == (2, K)
    with pytest.raises(ValueError, match="layer"):
        sd.Shared("relu")
