"""Functional models that call one layer several times, with more or fewer inputs each time."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest

import shared_dense as sd

K, U = 6, 6
NAMES = "q", "p", "n"
SMALL = "tensor", "list of one", "dict of one"
LARGE = "list", "dict", "nested"


def shared(name):
    """A layer, and the function of one input that it stands for."""
    if name == "SharedDense":
        layer = sd.SharedDense(U, activation="tanh", bias_initializer="normal")
        return layer, lambda x: np.tanh(x @ np.array(layer.kernel) + np.array(layer.bias))
    encoder = keras.layers.Dense(U)
    encoder.build((None, K))
    layer = sd.TransposedDense(encoder, activation="tanh", bias_initializer="normal")
    return layer, lambda x: np.tanh(x @ np.array(encoder.kernel).T + np.array(layer.bias))


def called(layer, kind, inputs):
    """Outputs by name of a call on some of the inputs, in a structure of that kind."""
    q, p, n = (inputs[name] for name in NAMES)
    if kind == "tensor":
        return {"q": layer(q)}
    if kind == "list of one":
        return {"q": layer([q])[0]}
    if kind == "dict of one":
        return {"q": layer({"query": q})["query"]}
    if kind == "list":
        return dict(zip("pn", layer([p, n]), strict=True))
    if kind == "dict":
        found = layer({"positive": p, "negative": n})
        return {"p": found["positive"], "n": found["negative"]}
    found = layer({"both": [p, (n,)]})["both"]
    return {"p": found[0], "n": found[1][0]}


def symbolic():
    return {name: keras.Input((K,), name=name) for name in NAMES}


def model_of(layer, kinds):
    inputs = symbolic()
    found = {}
    for kind in kinds:
        found |= called(layer, kind, inputs)
    return keras.Model(inputs, found)


def check(model, layer_of, x):
    found = model.predict(x, verbose=0)
    for name in found:
        np.testing.assert_allclose(found[name], layer_of(x[name]), rtol=1e-5, atol=1e-6)
    return found


ORDERS = [order for pair in itertools.product(SMALL, LARGE) for order in (pair, pair[::-1])]
ORDERS.append(("tensor", "dict", "list", "dict of one"))
LAYERS = "SharedDense", "TransposedDense"
# Keras keeps the calls, whoever multiplies: every order with both layers, and on both paths.
CELLS = [
    pytest.param(path, name, order, id=f"{path}-{name}-{'-'.join(order)}")
    for i, order in enumerate(ORDERS)
    for path, name in zip(("op", "fallback"), LAYERS[:: 1 if i % 2 else -1], strict=True)
]


@pytest.mark.parametrize(("path", "name", "order"), CELLS, indirect=["path"])
def test_calls_of_any_size_in_any_order(path, rng, tmp_path, name, order):
    layer, of_one = shared(name)
    x = {name: rng.normal(size=(4, K)).astype("float32") for name in NAMES}
    model = model_of(layer, order)
    model.compile("sgd", "mse")

    before = check(model, of_one, x)
    model.fit(x, {name: np.zeros((4, U)) for name in before}, verbose=0)
    trained = check(model, of_one, x)

    assert all(np.abs(trained[name] - before[name]).max() > 1e-4 for name in before)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_equal(loaded.predict(x, verbose=0), trained)
    for depth in range(2):  # the layer's own model, and one that has this as a part
        clone = keras.models.clone_model(model)
        clone.set_weights(model.get_weights())
        np.testing.assert_equal(clone.predict(x, verbose=0), trained, err_msg=f"depth {depth}")
        inputs = symbolic()
        model = keras.Model(inputs, model(inputs))


@pytest.mark.parametrize("names", [("q",), ("q", "p"), ("n", "p", "q")])
@pytest.mark.parametrize("first", [True, False])
def test_branches_in_any_number(path, rng, names, first):
    layer = sd.SharedDense(U, branches={name: {"bias": name} for name in NAMES})
    x = {name: rng.normal(size=(4, K)).astype("float32") for name in NAMES}
    inputs = symbolic()
    few = {name: inputs[name] for name in names}
    calls = [layer(part) for part in ((few, inputs) if first else (inputs, few))]
    few = calls[0 if first else 1]

    model = keras.models.clone_model(keras.Model(inputs, {"all": calls[1 if first else 0], **few}))
    found = model.predict(x, verbose=0)

    for name in names:
        np.testing.assert_array_equal(found[name], found["all"][name])
    assert set(layer.output) == (
        set(names) if first else set(NAMES)
    )  # as a Dense's: the first call's


@pytest.mark.parametrize("cls", [sd.SharedDense, None])
@pytest.mark.parametrize(
    "structure",
    [["q"], ("p", "q"), {"q": "q", "p": "p"}, {"z": ["q", ("n",)], "a": {"y": "p", "b": "q"}}],
)
def test_output_and_input_have_the_structure_of_the_call(path, rng, cls, structure):
    layer = sd.SharedDense(U) if cls else shared("TransposedDense")[0]
    x = {name: rng.normal(size=(4, K)).astype("float32") for name in NAMES}
    inputs = symbolic()
    given = keras.tree.map_structure(lambda name: inputs[name], structure)
    model = keras.Model(inputs, layer(given))

    keras.tree.assert_same_structure(layer.output, structure)
    again = keras.Model(inputs, layer.output).predict(x, verbose=0)

    keras.tree.map_structure(np.testing.assert_array_equal, again, model.predict(x, verbose=0))
    taken = keras.tree.map_structure(lambda a, b: a is b, layer.input, given)
    assert all(keras.tree.flatten(taken))


@pytest.mark.parametrize("cls", ["SharedDense", "TransposedDense"])
def test_calls_elsewhere_leave_a_models_output(path, rng, cls):
    """Features of a tower are read off it, whatever larger calls its layer has elsewhere."""
    layer, function = shared(cls)
    x = keras.Input((K,))
    tower = keras.Model(x, layer(x))
    larger = keras.Model(inputs := [keras.Input((K,)) for _ in range(3)], layer(inputs))
    one = rng.normal(size=(4, K)).astype("float32")
    features = keras.Model(tower.inputs, tower.layers[-1].output).predict(one, verbose=0)
    np.testing.assert_allclose(features, function(one), atol=1e-6)
    assert len(larger.predict([one] * 3, verbose=0)) == 3


class Similarity(sd.SharedDense):
    """A subclass that gives one output for two inputs."""

    def call(self, inputs, training=None):
        p, q = super().call(inputs)
        return keras.ops.sum(p * q, -1)

    def compute_output_shape(self, input_shape):
        return input_shape[0][:-1]


def test_a_subclass_that_gives_fewer_outputs(path, rng):
    layer = Similarity(U)
    inputs = [keras.Input((K,)) for _ in range(2)]
    model = keras.Model(inputs, keras.layers.Activation("sigmoid")(layer(inputs)))
    assert layer.output.shape == (None,)
    x = [rng.normal(size=(4, K)).astype("float32") for _ in range(2)]
    p, q = (a @ np.array(layer.kernel) for a in x)
    found = model.predict(x, verbose=0)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-(p * q).sum(-1))), atol=1e-6)


def test_no_call_no_output(path):
    for attribute in ("input", "output"):
        with pytest.raises(AttributeError):
            getattr(sd.SharedDense(U), attribute)
    called_on_numbers = sd.SharedDense(U)
    called_on_numbers(np.ones((2, K), "float32"))
    with pytest.raises(AttributeError):
        _ = called_on_numbers.output
