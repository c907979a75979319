"""SharedDense(branches=...): which input uses which weights, and what its gradient trains.

Numbers are whole, so op, fallback and the float64 oracle agree exactly.
"""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from exact import assert_equal, set_whole_weights, whole

import shared_dense as sd
from shared_dense.runtime import paths

U = 5
WIDTHS = {"text": 4, "image": 6}
TABLE = {
    "query": {"kernel": "text"},
    "document": {"kernel": "text", "bias": "document", "activation": "relu"},
    "title": {"kernel": "text", "bias": "document", "trains_kernel": False},
    "image": {"kernel": "image", "bias": None, "activation": None},
    "icon": {"kernel": "image", "activation": "relu", "trains_kernel": False},
}
SHAPES = {"query": (3,), "document": (2, 4), "title": (6,), "image": (0,), "icon": (2, 1, 2)}


@pytest.fixture(autouse=True)
def _no_call_yet(monkeypatch):
    """`path` looks at the latest call: not at one of another test."""
    monkeypatch.setattr(paths, "_last", None)


def width(name):
    return WIDTHS[TABLE[name]["kernel"]]


def arrays(rng, names=TABLE):
    return {name: whole(rng, *SHAPES[name], width(name)) for name in names}


def built(rng, **kwargs):
    layer = sd.SharedDense(U, branches=TABLE, **kwargs)
    layer.build({name: (None, width(name)) for name in TABLE})
    set_whole_weights(rng, layer)
    return layer


def by_hand(layer, inputs, weights):
    """The table's meaning in plain TensorFlow, float64, given the weights by their names."""
    outputs = {}
    for name, x in inputs.items():
        spec = TABLE[name]
        kernel = weights[f"{spec['kernel']}_kernel"]
        if not spec.get("trains_kernel", True):
            kernel = tf.stop_gradient(kernel)
        z = tf.tensordot(x, kernel, 1)
        bias = spec.get("bias", "bias")
        if bias is not None:
            z += weights["bias" if bias == "bias" else f"{bias}_bias"]
        activation = spec.get("activation", layer.activation)
        outputs[name] = keras.activations.get(activation)(z)
    return outputs


def gradients(apply, inputs, weights, dys):
    with tf.GradientTape() as tape:
        tape.watch([inputs, weights])
        outputs = apply(inputs)
    return outputs, tape.gradient(
        outputs, (inputs, weights), dys, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )


@pytest.mark.parametrize(
    "names", [list(TABLE), ["title", "document", "query"], ["title"], ["icon", "title"]], ids=len
)
def test_values_and_gradients_are_what_the_table_says(path, run, rng, names):
    layer = built(rng, activation="relu6")
    inputs = keras.tree.map_structure(tf.constant, arrays(rng, names))
    dys = {name: whole(rng, *x.shape[:-1], U) for name, x in inputs.items()}
    step = run(
        lambda inputs: gradients(layer, inputs, {w.name: w.value for w in layer.weights}, dys)
    )
    exact = [
        keras.tree.map_structure(lambda x: tf.cast(x, "float64"), part)
        for part in (inputs, {w.name: w.value for w in layer.weights}, dys)
    ]
    wanted = gradients(lambda x: by_hand(layer, x, exact[1]), *exact)
    assert_equal(step(inputs), wanted)
    kernel = wanted[1][1]["text_kernel"]
    assert np.any(kernel) == ("query" in names)  # the test tells training from not


def test_one_op_per_kernel(path, rng):
    layer = built(rng)

    @tf.function
    def step(inputs):
        with tf.GradientTape() as tape:
            outputs = layer(inputs)
        return tape.gradient(outputs, [w.value for w in layer.weights])

    graph = step.get_concrete_function(arrays(rng)).graph
    ours = sorted(node.type for node in graph.get_operations() if "SharedDense" in node.type)
    names = ["SharedDense>SharedMatMul"] * 2 + ["SharedDense>SharedMatMulGrad"] * 2
    products = [name for name in ours if name != "SharedDense>SharedMatMulOutput"]
    assert products == (names if path == "op" else [])


def test_what_trains_no_kernel_is_not_computed(path, rng):
    layer = built(rng)
    inputs = {"title": tf.constant(arrays(rng)["title"])}
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
    kernel, bias, x = tape.gradient(
        outputs, [layer.kernels["text"].value, layer.biases["document"].value, inputs["title"]]
    )
    assert kernel is None
    np.testing.assert_array_equal(bias, np.full(U, 6.0))
    np.testing.assert_array_equal(x, np.tile(np.sum(layer.kernels["text"], 1), (6, 1)))


def test_a_branch_may_have_a_structure_of_inputs(path, rng):
    layer, x = built(rng), arrays(rng)
    outputs = layer({"document": [x["document"], x["query"]], "icon": (x["icon"],)})
    wanted = [layer({"document": part})["document"] for part in (x["document"], x["query"])]
    assert_equal(outputs, {"document": wanted, "icon": (layer({"icon": x["icon"]})["icon"],)})


def test_weights_are_named_by_the_table(rng):
    layer = built(rng)
    names = ["text_kernel", "image_kernel", "bias", "document_bias"]
    assert [w.name for w in layer.weights] == names
    assert [w.name for w in layer.kernels.values()] == names[:2]
    assert [w.name for w in layer.biases.values()] == names[2:]
    assert {n: w.shape for n, w in layer.kernels.items()} == {"text": (4, U), "image": (6, U)}
    with pytest.raises(AttributeError, match=r"2 weights of the kind 'kernel' \(text, image\)"):
        _ = layer.kernel
    with pytest.raises(AttributeError, match=r"2 weights of the kind 'bias' \(bias, document\)"):
        _ = layer.bias


def test_defaults_are_one_kernel_and_one_bias(path, rng):
    layer = sd.SharedDense(U, activation="relu", branches={"left": {}, "right": {}})
    plain = sd.SharedDense(U, activation="relu")
    x = {"left": whole(rng, 3, 4), "right": whole(rng, 2, 4)}
    layer(x), plain(x)
    set_whole_weights(rng, layer, plain)
    assert [w.name for w in layer.weights] == ["kernel", "bias"]
    assert layer.kernel is layer.kernels["kernel"] and layer.bias is layer.biases["bias"]
    assert_equal(layer(x), plain(x))
    assert list(plain.kernels) == ["kernel"] and plain.biases == {"bias": plain.bias}
    bare = sd.SharedDense(U, use_bias=False, branches={"left": {}, "right": {"bias": "own"}})
    bare(x)
    assert [w.name for w in bare.weights] == ["kernel", "own_bias"]
    none = sd.SharedDense(U, branches={"left": {"bias": None}})
    none({"left": x["left"]})
    assert none.bias is None and none.biases == {}


def test_weights_are_made_as_dense_makes_them(path, rng):
    layer = sd.SharedDense(
        U,
        branches={name: {"kernel": name, "bias": name} for name in "ab"},
        bias_initializer=keras.initializers.RandomNormal(),
        kernel_regularizer=keras.regularizers.L1(0.5),
        bias_regularizer=keras.regularizers.L1(2.0),
        kernel_constraint="non_neg",
        bias_constraint="non_neg",
    )
    x = {name: whole(rng, 3, 4) for name in "ab"}
    layer(x)
    # An initializer called twice gives the same numbers twice.
    assert not np.array_equal(*layer.kernels.values()) and not np.array_equal(
        *layer.biases.values()
    )
    weights = set_whole_weights(rng, layer)
    sizes = [np.abs(w).sum() for w in weights]
    scales = [0.5, 0.5, 2, 2]
    assert sorted(map(float, layer.losses)) == sorted(np.multiply(sizes, scales))
    assert (np.concatenate(weights, axis=None) < 0).any()
    keras.optimizers.SGD(1.0).apply([tf.zeros(w.shape) for w in layer.weights], layer.weights)
    assert_equal(layer.get_weights(), [np.maximum(w, 0) for w in weights])


@keras.saving.register_keras_serializable(package="test_branches")
def double(z):
    return 2 * z


def test_config(rng):
    table = {**TABLE, "note": {"kernel": "text", "activation": double}}
    layer = sd.SharedDense(U, branches=table, activation="relu", name="tower")
    config = layer.get_config()
    again = sd.SharedDense.from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config
    assert again.branches["note"]["activation"] is double
    assert config["branches"]["title"] == TABLE["title"]  # the default is the layer's, still
    assert "branches" not in sd.SharedDense(U).get_config()


def test_a_copy_knows_the_widths(path, rng):
    layer, x = built(rng), arrays(rng)
    copy = sd.SharedDense.from_config(layer.get_config())
    copy({"title": x["title"]})  # has no input for the other kernel
    copy.set_weights(layer.get_weights())
    assert_equal(copy(x), layer(x))


def functional(layer, rng, names=TABLE):
    inputs = {name: keras.Input((*SHAPES[name][1:], width(name)), name=name) for name in names}
    return keras.Model(inputs, layer(inputs))


@pytest.mark.parametrize("how", ["keras", "h5", "weights", "clone", "from_dense"])
def test_models_are_saved_and_copied(path, rng, how, tmp_path):
    table = {**TABLE, "icon": {**TABLE["icon"], "activation": double}}
    layer = sd.SharedDense(U, activation="relu", branches=table, name="tower")
    model = functional(layer, rng)
    set_whole_weights(rng, model)
    if how == "weights":
        # Same shapes in another order: weights go by their names.
        layer = sd.SharedDense(
            U, activation="relu", branches=dict(reversed(table.items())), name="tower"
        )
        other = functional(layer, rng)
        model.save_weights(tmp_path / "model.weights.h5")
        other.load_weights(tmp_path / "model.weights.h5")
    elif how == "clone":
        other = keras.models.clone_model(model)
        other.set_weights(model.get_weights())
    elif how == "from_dense":
        other = functional(sd.SharedDense.from_dense(layer), rng)
    else:
        model.save(tmp_path / f"model.{how}")
        other = keras.models.load_model(tmp_path / f"model.{how}", compile=False)
    x = {name: whole(rng, 2, *SHAPES[name][1:], width(name)) for name in TABLE}
    assert_equal(other(x), model(x))
    assert [w.name for w in model.layers[-1].weights][:2] == ["text_kernel", "image_kernel"]


def test_weights_of_other_branches_do_not_load(rng, tmp_path):
    functional(sd.SharedDense(U, branches=TABLE), rng, ["query"]).save_weights(
        tmp_path / "model.weights.h5"
    )
    model = functional(sd.SharedDense(U, branches=TABLE), rng)
    with pytest.raises(ValueError, match="Build it with the branches that it was saved with"):
        model.load_weights(tmp_path / "model.weights.h5")


def test_fit_with_a_loss_per_output(path, rng):
    names = ["query", "image"]
    layer = sd.SharedDense(4, branches={name: TABLE[name] for name in names})
    model = functional(layer, rng, names)
    set_whole_weights(rng, model)
    x = {name: whole(rng, 8, width(name)) for name in names}
    y = {name: whole(rng, 8, 4) for name in names}
    off = {name: np.float64(part) - y[name] for name, part in layer(x).items()}
    assert list(off) == names
    # Means of 8 and of 4 whole numbers: exact.
    model.compile("sgd", loss={"query": "mse", "image": "mae"})
    history = model.fit(x, y, batch_size=8, verbose=0).history
    losses = np.mean(off["query"] ** 2), np.mean(np.abs(off["image"]))
    assert history == {"query_loss": [losses[0]], "image_loss": [losses[1]], "loss": [sum(losses)]}


def test_kept_from_the_kernel_where_keras_computes(rng, monkeypatch):
    layer, x = built(rng), arrays(rng)
    holes = {**x, "query": tf.sparse.from_dense(x["query"])}
    dys = {name: whole(rng, *a.shape[:-1], U) for name, a in x.items()}

    def kernels(inputs):
        with tf.GradientTape() as tape:
            outputs = layer(inputs)
        sources = [w.value for w in layer.kernels.values()]
        return outputs, tape.gradient(outputs, sources, dys)

    wanted = kernels(x)
    assert_equal(kernels(holes), wanted)
    layer({"query": holes["query"]})
    assert paths.last().name == "keras"
    monkeypatch.setattr(keras.backend, "backend", lambda: "another")
    monkeypatch.setattr(paths, "_last", None)
    assert_equal(kernels(x), wanted)
    assert paths.last() is None


def test_half_precision(path, rng):
    layer = built(rng, dtype="mixed_bfloat16")
    x = arrays(rng)
    outputs = layer(x)
    plain = {w.name: w.value for w in layer.weights}
    for name, y in by_hand(layer, x, plain).items():
        assert outputs[name].dtype == "bfloat16"  # holds these whole numbers
        np.testing.assert_array_equal(np.float32(outputs[name]), y)
