"""All that Dense does, done to structures of inputs; what Keras's own tests of Dense do not see.

Values and gradients: test_layer.py. Models: test_layer_models.py.
"""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from exact import assert_equal, set_whole_weights, whole

import shared_dense as sd
from shared_dense.runtime import paths

K, U = 8, 4


@pytest.fixture(autouse=True)
def _no_call_yet(monkeypatch):
    """`path` looks at the latest call: not at one of another test."""
    monkeypatch.setattr(paths, "_last", None)


def pair(rng, **kwargs):
    layers = [cls(U, **kwargs) for cls in (sd.SharedDense, keras.layers.Dense)]
    for layer in layers:
        layer.build((None, K))
    set_whole_weights(rng, *layers)
    return layers


def structure(rng):
    return {"query": whole(rng, 8, K), "items": [whole(rng, 8, 2, K), whole(rng, 8, K)]}


def functional(apply, x):
    inputs = keras.tree.map_structure(lambda a: keras.Input(a.shape[1:]), x)
    return keras.Model(keras.tree.flatten(inputs), keras.tree.flatten(apply(inputs)))


def reuse(dense):
    return lambda inputs: keras.tree.map_structure(dense, inputs)


def test_arguments_come_in_the_order_of_dense():
    names = [n for n in inspect.signature(keras.layers.Dense).parameters if n != "kwargs"]
    values = {
        "units": U,
        "activation": "relu",
        "use_bias": False,
        "kernel_initializer": "he_normal",
        "bias_initializer": "ones",
        "kernel_regularizer": "l1",
        "bias_regularizer": "l2",
        "activity_regularizer": "l1",
        "kernel_constraint": "non_neg",
        "bias_constraint": "unit_norm",
        "lora_rank": 2,
        "lora_alpha": 3,
    }
    given = [values[name] for name in names if name in values]
    assert len(given) == len(values)
    layers = [
        cls(*given, name="n", dtype="float64") for cls in (sd.SharedDense, keras.layers.Dense)
    ]
    assert layers[0].get_config() == layers[1].get_config()


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_quantized_models(rng, mode, tmp_path):
    x = structure(rng)
    shared, dense = pair(rng, activation="relu")
    models = [functional(shared, x), functional(reuse(dense), x)]
    for model in models:
        model.quantize(mode)
    wanted = models[1](keras.tree.flatten(x))
    assert shared.quantization_mode == mode
    assert_equal(models[0](keras.tree.flatten(x)), wanted)
    assert paths.last() == ("keras", f"the layer is quantized ({mode})")
    models[0].save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_equal(loaded(keras.tree.flatten(x)), wanted)


@pytest.mark.parametrize(
    "mode, config",
    [
        ("gptq", keras.quantizers.GPTQConfig(None, None, weight_bits=8, group_size=-1)),
        ("awq", keras.quantizers.AWQConfig(None, None, group_size=-1)),
    ],
)
def test_quantized_after_calibration(rng, mode, config):
    shared, dense = pair(rng)
    for layer in (shared, dense):
        layer.quantize(mode, config=config)
    x = structure(rng)
    assert_equal(shared(x), reuse(dense)(x))
    for layer in (shared, dense):  # as calibration leaves it
        for name in ("quantized_kernel", "kernel_zero"):
            weight = getattr(layer, name)
            weight.assign(np.arange(np.prod(weight.shape)).reshape(weight.shape) % 7)
        setattr(layer, f"is_{mode}_calibrated", True)
    wanted = reuse(dense)(x)
    assert np.any(wanted["query"])
    assert_equal(shared(x), wanted)


def test_an_unknown_quantization_is_refused(rng):
    with pytest.raises(ValueError, match="Invalid quantization mode"):
        pair(rng)[0].quantize("int7")


def test_lora_is_one_call_and_merged_when_saved(path, rng, tmp_path):
    x = structure(rng)
    shared, dense = pair(rng)
    model = functional(shared, x)
    for layer in (shared, dense):
        layer.enable_lora(2, lora_alpha=4)
        layer.lora_kernel_a.assign(np.eye(K, 2) * 3)
        layer.lora_kernel_b.assign(np.eye(2, U))
    wanted = keras.tree.flatten(reuse(dense)(x))
    assert_equal(model(keras.tree.flatten(x)), wanted)
    graph = tf.function(lambda: shared(x)).get_concrete_function().graph
    ours = [node for node in graph.get_operations() if node.type.endswith("SharedMatMul")]
    assert len(ours) == (path == "op")

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_equal(loaded(keras.tree.flatten(x)), wanted)
    assert not np.any(loaded.layers[-1].lora_kernel_b)
    assert_equal(np.array(loaded.layers[-1].kernel), np.array(dense.kernel))


@pytest.mark.filterwarnings("ignore:You are saving")
def test_legacy_h5(path, rng, tmp_path):
    x = structure(rng)
    model = functional(sd.SharedDense(U, activation="relu"), x)
    set_whole_weights(rng, model)
    model.save(tmp_path / "model.h5")
    loaded = keras.models.load_model(tmp_path / "model.h5", compile=False)
    assert_equal(loaded(keras.tree.flatten(x)), model(keras.tree.flatten(x)))


def test_trained_on_two_exported_on_one(path, rng, tmp_path):
    encoder = sd.SharedDense(U, activation="relu", name="encoder")
    query, document = keras.Input((K,), name="query"), keras.Input((K,), name="document")
    model = keras.Model([query, document], encoder([query, document]))
    set_whole_weights(rng, model)
    tower = keras.Model(query, encoder(query))
    x = [whole(rng, 8, K) for _ in range(2)]
    before = encoder.get_weights()
    model.compile(keras.optimizers.SGD(0.5), ["mse", "mse"])
    model.fit(x, [whole(rng, 8, U) for _ in range(2)], batch_size=8, verbose=0)
    assert not np.array_equal(before[0], encoder.get_weights()[0])
    tower.export(tmp_path / "tower", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "tower")
    assert_equal(loaded.serve(x[0]), tower(x[0]))
    assert_equal(tower(x[0]), model(x)[0])


def test_dict_inputs_and_a_loss_per_output(path, rng):
    histories = []
    x = {name: whole(rng, 8, K) for name in ("query", "item")}
    y = {name: whole(rng, 8, U) for name in x}
    layers = pair(rng)
    for layer, apply in zip(layers, (layers[0], reuse(layers[1])), strict=True):
        inputs = {name: keras.Input((K,), name=name) for name in x}
        model = keras.Model(inputs, apply(inputs))
        # Whole numbers over powers of two: losses and a step are exact.
        model.compile(keras.optimizers.SGD(0.25), loss={"query": "mse", "item": "mae"})
        histories.append(model.fit(x, y, batch_size=8, verbose=0).history)
        histories[-1]["weights"] = layer.get_weights()
    assert set(histories[0]) == {"loss", "query_loss", "item_loss", "weights"}
    assert_equal(*histories)


def test_several_inputs_are_one_argument(path, rng):
    layer = sd.SharedDense(U, name="encoder")
    for x in (whole(rng, 2, K), keras.Input((K,))):
        with pytest.raises(TypeError, match=r'"encoder" takes its inputs as one .* layer\(\[a, b'):
            layer(x, x)
    assert layer(inputs=whole(rng, 2, K), training=True).shape == (2, U)


def test_sizes_that_numpy_computed(path, rng):
    shared, dense = (cls(U) for cls in (sd.SharedDense, keras.layers.Dense))
    for layer in (shared, dense):
        layer.build((None, np.prod([2, K // 2])))
    set_whole_weights(rng, shared, dense)
    x = whole(rng, 3, K)
    assert_equal(shared([x])[0], dense(x))
    layer = sd.SharedDense(U, branches={"a": {}})
    layer.build({"a": (None, np.int64(K))})
    assert sd.SharedDense.from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize("branches", [None, {"a": {}, "b": {"kernel": "b"}}])
def test_shape_of_the_outputs_of_a_width_that_is_unknown(branches):
    layer = sd.SharedDense(U, branches=branches)
    shapes = {"a": (None, 5, None), "b": (2, None)}
    assert layer.compute_output_shape(shapes) == {"a": (None, 5, U), "b": (2, U)}
    with pytest.raises(ValueError, match="width 4"):  # what is known is compared all the same
        layer.compute_output_shape({"a": [(None, None), (None, 3), (None, 4)]})


def test_kernels_that_are_not_of_floats(path, rng):
    shared, dense = pair(rng, dtype="int32", kernel_initializer="ones", activation="relu")
    x = rng.integers(-3, 4, (3, K)).astype("int32")
    got = shared({"a": x, "b": [x[:1]]})
    assert got["a"].dtype == tf.int32
    assert_equal(got, {"a": dense(x), "b": [dense(x[:1])]})


def test_input_spec_is_that_of_dense():
    """Tools read it; whoever calls with a structure is not held to it."""

    def said(layer):
        spec = layer.input_spec
        return spec.ndim, spec.min_ndim, spec.max_ndim, spec.shape, spec.dtype, spec.axes

    shared, dense = sd.SharedDense(U), keras.layers.Dense(U)
    assert said(shared) == said(dense)
    dense.build((None, K))
    shared.build([(None, K), (None, 2, K)])
    assert said(shared) == said(dense) == (None, 2, None, None, None, {-1: K})
    assert len(shared([np.ones((2, K)), np.ones((3, 1, K))])) == 2
    branched = sd.SharedDense(U, branches={"a": {}, "b": {"bias": "b"}})
    branched.build({"a": (None, K), "b": (None, K)})
    assert said(branched) == said(dense)
    widths = sd.SharedDense(U, branches={"a": {}, "b": {"kernel": "b"}})
    widths.build({"a": (None, K), "b": (None, 2 * K)})
    assert said(widths) == said(keras.layers.Dense(U))
    back = sd.TransposedDense(tied_to=shared)
    back.build([(None, U), (None, U)])
    assert back.input_spec.axes == {-1: U}
