"""Exported models in the runtimes they are for: ONNX Runtime, LiteRT and OpenVINO.

`make exports` sets up an environment that has these and runs this file; elsewhere it is skipped.
"""

from __future__ import annotations

import importlib.util
import os

import keras
import numpy as np
import pytest
from test_export import MODELS, U, assert_close, model_of

import shared_dense as sd

NEEDS = {
    "onnx": ["onnx", "onnxruntime", "tf2onnx"],
    "litert": ["ai_edge_litert"],
    "openvino": ["openvino"],
}
SUFFIX = {"onnx": ".onnx", "litert": ".tflite", "openvino": ".xml"}
FLOATS = [kind for kind in MODELS if kind != "quantized tie"]


@pytest.fixture(params=NEEDS)
def format(request):
    missing = [name for name in NEEDS[request.param] if importlib.util.find_spec(name) is None]
    if missing and not os.environ.get("SHARED_DENSE_EXPORTS"):
        pytest.skip(f"{', '.join(missing)} not installed; make exports")
    assert not missing
    return request.param


def run(file, format, batch):
    """The outputs for a batch, a list of as many arrays as the model has inputs, by their names."""
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file)
        names = sorted(value.name for value in session.get_inputs())
        return session.run(None, dict(zip(names, batch, strict=True)))
    if format == "litert":
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(file)).get_signature_runner("serving_default")
        found = runner(**dict(zip(sorted(runner.get_input_details()), batch, strict=True)))
        return [found[name] for name in sorted(found)]
    import openvino

    # On processors with bfloat16 instructions it would round to bfloat16.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(file, "CPU", settings)
    names = sorted(value.any_name for value in compiled.inputs)
    found = compiled(dict(zip(names, batch, strict=True)))
    return [found[i] for i in range(len(compiled.outputs))]


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("how", ["sd.export", "model.export"])
def test_the_numbers_of_the_model(tmp_path, format, kind, how):
    if (how, format, kind) == ("model.export", "onnx", "dict"):
        pytest.skip("Keras's export to ONNX knows no dict of inputs; sd.export does")
    model, batch = model_of(kind)
    wanted = model(batch)
    file = tmp_path / f"model{SUFFIX[format]}"

    if how == "sd.export":
        sd.export(model, file, format=format, verbose=False)
    else:
        model.export(str(file), format=format, verbose=False)

    arrays = [batch["a"], batch["b"]] if isinstance(batch, dict) else batch
    assert_close(run(file, format, arrays), wanted)
    other = [np.concatenate([x] * 3) for x in arrays]
    named = dict(zip("ab", other, strict=True)) if isinstance(batch, dict) else other
    assert_close(run(file, format, other), model(named))


def test_a_model_that_was_never_called(tmp_path, format):
    x = keras.Input((6,), name="x")
    model = keras.Sequential([x, sd.SharedDense(U, activation="gelu")])
    file = tmp_path / f"model{SUFFIX[format]}"
    sd.export(model, file, format=format, verbose=False)
    batch = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    assert_close(run(file, format, [batch]), [model(batch)])


@pytest.mark.parametrize("n", [2, 8])
def test_one_product_reads_the_kernel(tmp_path, format, n):
    """A runtime lays the kernel out anew for each product that reads it."""
    if format == "openvino":
        pytest.skip("OpenVINO's file has no list of products that one could count")
    inputs = [keras.Input((6,), name=f"x{i}") for i in range(n)]
    model = keras.Model(inputs, sd.SharedDense(U, activation="relu")(inputs))
    file = tmp_path / f"model{SUFFIX[format]}"
    sd.export(model, file, format=format, verbose=False)
    if format == "onnx":
        import onnx

        types = [node.op_type for node in onnx.load(file).graph.node]
        assert types.count("MatMul") + types.count("Gemm") == 1
        assert not [node.domain for node in onnx.load(file).graph.node if node.domain]
    else:
        from ai_edge_litert.interpreter import Interpreter

        types = [op["op_name"] for op in Interpreter(str(file))._get_ops_details()]
        assert types.count("FULLY_CONNECTED") + types.count("BATCH_MATMUL") == 1
