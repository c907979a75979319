"""Shared: any layer over several inputs, as that layer called on each of them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

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
    assert layer.output is first


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
    for wrong, words in (
        ("relu", "layer is 'relu'; pass a Keras layer, or a keras.Sequential of several"),
        ([keras.layers.ReLU()], "keras.Sequential of several"),
        (keras.layers.ReLU, r"pass an instance: ReLU\(\.\.\.\)"),
        (tf_keras.layers.ReLU(), "that is a layer of tf_keras; pass one of Keras 3"),
    ):
        with pytest.raises(ValueError, match=f"Shared: .*{words}"):
            sd.Shared(wrong)


@pytest.mark.parametrize("nested", [False, True])
def test_a_sequential_takes_inputs_of_different_ranks_in_a_model(path, rng, nested):
    """As in a direct call: its layers are called, each on all of the inputs."""
    parts = [keras.layers.LayerNormalization(), sd.SharedDense(4)]
    parts = [keras.Sequential(parts)] if nested else parts
    layer = sd.Shared(keras.Sequential([*parts, sd.SharedDense(2)]))
    inputs = [keras.Input((K,)), keras.Input((3, K)), keras.Input((None, K))]
    model = keras.Model(inputs, layer(inputs))
    assert [y.shape for y in model.outputs] == [(None, 2), (None, 3, 2), (None, None, 2)]
    xs = [rng.normal(size=s).astype("float32") for s in ((4, K), (4, 3, K), (4, 5, K))]
    assert_same(model.predict(xs, verbose=0), [np.array(y) for y in layer(xs)])
    for y, x in zip(model(xs), xs, strict=True):
        alone = layer([x.reshape(-1, K)])[0]
        np.testing.assert_allclose(np.reshape(y, (-1, 2)), alone, atol=1e-6)


class Tower(keras.Model):
    """Layers that are built as they are called, as most users write them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.norm = sd.SharedDense(2), keras.layers.LayerNormalization()

    def call(self, x, training=None):
        return self.norm(self.dense(x))


class Scale(keras.layers.Layer):
    """One that says nothing of its outputs."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), name="scale", initializer="normal")

    def call(self, x):
        return x * self.scale


@pytest.mark.parametrize("make", [Tower, Scale])
def test_layers_of_a_user_are_built_and_loaded(path, rng, tmp_path, make):
    def model():
        inputs = [keras.Input((K,)), keras.Input((K,))]
        layer = make()
        return layer, keras.Model(inputs, sd.Shared(layer)(inputs))

    layer, first = model()
    _, second = model()
    assert first.count_params() == second.count_params() == layer.count_params() > 0
    x = [rng.normal(size=(4, K)).astype("float32") for _ in range(2)]
    wanted = [np.array(layer(a)) for a in x]
    assert_same(first.predict(x, verbose=0), wanted)
    first.save_weights(tmp_path / "model.weights.h5")
    second.load_weights(tmp_path / "model.weights.h5")
    assert_same(second.predict(x, verbose=0), wanted)


def test_dtypes_are_the_layers_own(path):
    """Whole numbers and wide floats reach it as they are."""
    a = keras.Input((4,))
    for layer, dtype in (
        (keras.layers.Discretization([0.0, 1.0]), "int32"),
        (keras.layers.Dense(2, dtype="float64"), "float64"),
    ):
        assert sd.Shared(layer)([a])[0].dtype == dtype
    norm = keras.layers.Normalization(mean=1e8, variance=1.0, dtype="float64")
    x = tf.constant([[1e8 + 1, 1e8 + 2]], tf.float64)
    np.testing.assert_array_equal(sd.Shared(norm)([x])[0], [[1.0, 2.0]])
    table = keras.layers.Embedding(2000, 4)
    numbers = tf.constant([[257.0, 515.0]])
    low = sd.Shared(table, dtype="mixed_bfloat16")
    np.testing.assert_array_equal(low([numbers])[0], table(numbers))


@pytest.mark.parametrize("outer", ["decoder in Shared", "encoder in Shared"])
def test_a_tie_through_shared_is_kept_in_a_copy(path, outer):
    encoder, x = sd.SharedDense(4, name="encoder"), keras.Input((K,))
    decoder = sd.TransposedDense(encoder)
    if outer == "decoder in Shared":
        model = keras.Model(x, sd.Shared(decoder)([encoder(x)])[0])
    else:
        model = keras.Model(x, decoder(sd.Shared(encoder)([x])[0]))
    copy = keras.models.clone_model(model)
    assert len(copy.weights) == len(model.weights) == 3


def test_a_layer_of_two_outputs_is_refused(path):
    layer = sd.Shared(keras.layers.LSTM(3, return_state=True))
    with pytest.raises(ValueError, match=r"'lstm.*' gives a (list|tuple) for one"):
        layer([np.ones((2, 5, 4), "float32")])


def test_ragged_inputs_reach_a_layer_that_takes_them(path):
    table = keras.layers.Embedding(9, 2)
    ragged = tf.ragged.constant([[1, 2, 3], [4]])
    (found,) = sd.Shared(table)([ragged])
    np.testing.assert_array_equal(found.flat_values, table(ragged.flat_values))


def test_what_keras_says_of_lists_without_shared():
    """As migrating-from-dense.md tells those who look for the words."""
    inputs = [keras.Input((K,)), keras.Input((K,))]
    x = [np.ones((4, K), "float32")] * 2
    hidden = keras.layers.Dropout(0.5)(sd.SharedDense(2)(inputs))
    model = keras.Model(inputs, keras.layers.Dot(1)(hidden))
    model.predict(x, verbose=0)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="is not connected to `inputs`"):
        model.fit(x, np.zeros((4, 1)), verbose=0)
    with pytest.raises((TypeError, ValueError), match=r"Cannot convert .* to a shape"):
        keras.layers.LayerNormalization()(x)
