"""Models as files for runtimes without the op: SavedModel and LiteRT, which TensorFlow runs.

Those that need packages of their own: test_export_runtimes.py.
"""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import warm
from graphs import operations_of
from oracle import ACTIVATIONS

import shared_dense as sd
from shared_dense.keras.exporting import _with_flat_inputs

K, U = 16, 4
MODELS = ["dict", "list", "nested", "branches", "tied", "quantized tie", "several layers"]


def model_of(kind):
    """A model, and a batch of its inputs: other numbers of rows and other ranks."""
    a, b = keras.Input((K,), name="a"), keras.Input((None, K), name="b")
    layer = sd.SharedDense(U, activation="gelu", bias_initializer="normal")
    inputs = [a, b]
    if kind == "dict":
        inputs = {"a": a, "b": b}
        outputs = layer(inputs)
    elif kind == "list":
        outputs = layer(inputs)
    elif kind == "nested":
        outputs = keras.tree.flatten(layer({"x": [a, b], "y": (a,)}))
    elif kind == "branches":
        table = {"a": {"activation": "relu"}, "b": {"bias": "own"}, "c": {"bias": None}}
        table["d"] = {"trains_kernel": False, "activation": "silu"}
        layer = sd.SharedDense(U, branches=table, bias_initializer="normal")
        outputs = layer({"a": a, "b": b, "c": a, "d": b})
        outputs = [outputs[name] for name in "abcd"]
    elif kind in ("tied", "quantized tie"):
        hidden = layer(inputs)
        if kind == "quantized tie":
            layer.quantize("int8")
        outputs = sd.TransposedDense(layer, activation="silu")(hidden)
    else:
        hidden = sd.Shared(keras.layers.LayerNormalization())(layer(inputs))
        outputs = sd.SharedDense(3, activation="elu")(hidden)
    rng = np.random.default_rng(3)
    batch = [rng.normal(size=shape).astype("float32") for shape in ((5, K), (2, 3, K))]
    names = keras.tree.pack_sequence_as(inputs, batch)
    return keras.Model(inputs, outputs), names


def assert_close(found, wanted):
    found, wanted = (keras.tree.flatten(y) for y in (found, wanted))
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)


def products_of(function):
    return sum(name in ("MatMul", "BatchMatMulV2", "Einsum") for name in operations_of(function))


@pytest.mark.parametrize("kind", MODELS)
def test_saved_model(path, tmp_path, kind):
    model, batch = model_of(kind)
    wanted = model(batch)

    sd.export(model, tmp_path / "saved", verbose=False)

    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    assert_close(loaded.serve(batch), wanted)
    other = keras.tree.map_structure(lambda x: np.concatenate([x, x]), batch)
    assert_close(loaded.serve(other), model(other))
    served = loaded.signatures["serving_default"]
    assert not [name for name in operations_of(served) if "SharedDense" in name]
    if kind != "quantized tie":  # Keras multiplies each of its quantized layer's inputs
        layers = {"tied": 2, "branches": 2, "several layers": 2}.get(kind, 1)
        assert products_of(served) == layers


@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind != "quantized tie"])
@pytest.mark.parametrize("how", ["sd.export", "model.export", "converter"])
def test_litert(tmp_path, kind, how):
    """The layers notice the converters by themselves."""
    model, batch = model_of(kind)
    file = tmp_path / "model.tflite"
    if how == "sd.export":
        sd.export(model, file, format="litert", verbose=False)
    elif how == "model.export":
        model.export(str(file), format="litert", verbose=False)
    else:
        file.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    assert "export" in sd.status().last_reason
    with_names = batch if isinstance(batch, dict) else dict(zip("ab", batch, strict=True))

    interpreter = tf.lite.Interpreter(str(file))
    runner = interpreter.get_signature_runner("serving_default")
    (names, wanted) = sorted(runner.get_input_details()), keras.tree.flatten(model(batch))
    found = runner(**dict(zip(names, (with_names["a"], with_names["b"]), strict=True)))

    assert len(found) == len(wanted)
    for name, value in zip(sorted(found), wanted, strict=True):
        assert_close(found[name], value)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_gradients(tmp_path, rng, name):
    """What is exported trains, too."""
    kernel, bias = (tf.Variable(rng.normal(size=s), dtype="float64") for s in ((K, U), (U,)))
    x = [tf.constant(rng.normal(size=s)) for s in ((3, K), (K,), (0, K), (2, 1, K))]

    def step():
        with tf.GradientTape() as tape:
            tape.watch(x)
            ys = sd.shared_matmul(x, kernel, [bias, None, bias, bias], name)
        return ys, tape.gradient(ys, [*x, kernel, bias])

    from shared_dense.runtime import paths

    wanted = step()
    with paths.exporting():
        found = tf.function(step)()
    for a, b in zip(keras.tree.flatten(found), keras.tree.flatten(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_the_kernel_of_what_does_not_train_it_is_a_constant(rng):
    from shared_dense.runtime import paths

    kernel, x = tf.Variable(rng.normal(size=(K, U))), [tf.constant(rng.normal(size=(2, K)))] * 3
    with paths.exporting(), tf.GradientTape() as tape:
        ys = sd.shared_matmul(x, kernel, trains_kernel=[True, False, True])
    gradient = tape.gradient(ys, kernel)
    np.testing.assert_allclose(gradient, 2 * (x[0].numpy().sum(0)[:, None] * np.ones((K, U))))


def test_a_file_runs_without_the_package(tmp_path):
    model, batch = model_of("list")
    sd.export(model, tmp_path / "saved", verbose=False)
    np.savez(tmp_path / "batch.npz", *batch)
    program = (
        "import numpy as np, tensorflow as tf\n"
        "batch = np.load('batch.npz')\n"
        "model = tf.saved_model.load('saved')\n"
        "found = model.serve([batch['arr_0'], batch['arr_1']])\n"
        "np.savez('found.npz', *found)\n"
    )
    subprocess.run([*warm.python(), "-c", program], cwd=tmp_path, check=True)
    found = np.load(tmp_path / "found.npz")
    assert_close([found[name] for name in found.files], model(batch))


@keras.saving.register_keras_serializable(package="test_export")
class Scaled(keras.Model):
    """A functional model that does more than its graph."""

    def call(self, inputs, training=None):
        return keras.tree.map_structure(lambda y: 100.0 * y, super().call(inputs))


@pytest.mark.parametrize("kind", ["dict", "list", "nested"])
def test_the_model_for_onnx_calls_the_model(kind):
    """Keras's exporter to ONNX knows no dict: it gets a model with a list of inputs."""
    model, batch = model_of(kind)
    model = Scaled(model.input, model.output)
    flat, specs = _with_flat_inputs(model)
    xs = keras.tree.flatten(batch)
    assert_close(flat(xs), model(batch))
    assert [spec.name for spec in specs[0]] == [x.name for x in model.inputs]


def test_a_sequential_for_onnx_that_was_never_called():
    model = keras.Sequential([keras.Input((K,)), sd.SharedDense(U)])
    flat, specs = _with_flat_inputs(model)
    x = np.ones((2, K), "float32")
    assert_close(flat(x), model(x))
    assert len(specs) == 1


def test_errors(tmp_path, monkeypatch):
    with pytest.raises(TypeError, match=r"model is <function .*keras\.Model"):
        sd.export(lambda x: x, tmp_path / "saved")
    model, _ = model_of("list")
    for module in ("onnx", "tf2onnx"):
        monkeypatch.setitem(sys.modules, module, None)  # not installed
    with pytest.raises(ImportError, match='format="onnx" needs tf2onnx onnx: pip install'):
        sd.export(model, tmp_path / "model.onnx", format="onnx")
    with pytest.raises(ValueError, match="format"):
        sd.export(model, tmp_path / "saved", format="onyx")
    unknown = keras.Sequential([sd.SharedDense(U)], name="own")
    unknown.predict([np.ones((2, K), "float32")] * 2, verbose=0)
    with pytest.raises(ValueError, match=r"the model 'own' knows no inputs .* input_signature="):
        sd.export(unknown, tmp_path / "saved")
    spec = keras.InputSpec(shape=(None, K), dtype="float32")
    sd.export(unknown, tmp_path / "saved", input_signature=[[spec, spec]], verbose=False)
    # Nothing is left behind: the next call takes the op again.
    sd.SharedDense(U)(np.ones((2, K)))
    assert sd.status().last_path == "op"


@pytest.mark.parametrize("kind", [sd.SharedDense, keras.layers.Dense])
def test_litert_runs_int4_and_refuses_int8(tmp_path, kind):
    x = np.random.default_rng(3).normal(size=(3, K)).astype("float32")
    for mode in ("int4", "int8"):
        model = keras.Sequential([keras.Input((K,)), kind(U)])
        model.quantize(mode)
        file = str(tmp_path / f"{mode}.tflite")
        if mode == "int8":
            with pytest.raises(Exception, match="fully_connected"):
                sd.export(model, file, format="litert", verbose=False)
        else:
            sd.export(model, file, format="litert", verbose=False)
            runner = tf.lite.Interpreter(file).get_signature_runner("serving_default")
            (name,) = runner.get_input_details()
            (found,) = runner(**{name: x}).values()
            np.testing.assert_allclose(found, model(x), rtol=1e-4, atol=1e-5)
