"""export: a model as a file for a runtime that knows no op of ours."""

from __future__ import annotations

import os
from typing import Any

import keras

from shared_dense.keras import compat
from shared_dense.runtime import paths
from shared_dense.runtime.public import public

# What Keras's exporters import, by format.
NEEDED = {"onnx": "tf2onnx onnx", "litert": "ai-edge-litert", "openvino": "openvino"}


@public
def export(
    model: keras.Model,
    filepath: str | os.PathLike,
    format: str = "tf_saved_model",
    **options: Any,
) -> None:
    """Exports a model without the op, to be run where this library is not.

    As `model.export`, whose formats, options and errors it has, but that the file holds
    TensorFlow's own ops: a call is one product of each kernel, over the rows of all its inputs
    (one more for those that do not train it). `model.export` to "onnx", "litert" or "openvino" does
    the same by itself; its SavedModel holds the op.

        shared_dense.export(model, "served")                       # TensorFlow, TensorFlow Serving
        shared_dense.export(model, "model.onnx", format="onnx")    # with tf2onnx installed
        shared_dense.export(model, "model.tflite", format="litert")
        shared_dense.export(model, "model.xml", format="openvino")  # with openvino installed

    An ONNX file has the inputs of `model.inputs`, by name, and its outputs in the order in which
    Keras flattens them, `keras.tree.flatten(model.output)`.

    What the model calls through a `tf.function` of yours that has run before keeps the path of its
    first trace: make that function anew. Likewise what is traced while the export runs, in any
    thread, keeps the form for other runtimes.

    Args:
        model: a built `keras.Model`.
        filepath: where to: a folder for "tf_saved_model", else a file.
        format: "tf_saved_model", "onnx", "litert" or "openvino".
        **options: what `model.export` takes: `verbose`, `input_signature`, and those of the format.

    Raises:
        TypeError: `model` is no Keras model.
        ValueError: the model knows no inputs, and `input_signature` names none; or as
            `model.export`, of the format.
        ImportError: what the format needs is not installed.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"model is {model!r}; pass a keras.Model. (For a tf.Module or a function, trace and "
            "save it inside shared_dense.fallback().)"
        )
    if format == "onnx" and getattr(model, "inputs", None) and "input_signature" not in options:
        model, options["input_signature"] = _with_flat_inputs(model)
    if "input_signature" not in options and _has_no_inputs(model):
        raise ValueError(
            f"the model {model.name!r} knows no inputs that a file could name; pass "
            "input_signature=[structure], the structure of its inputs with a "
            'keras.InputSpec(shape=(None, 12), dtype="float32", name="query") for each.'
        )
    with paths.exporting():
        try:
            model.export(os.fspath(filepath), format=format, **options)
        except ImportError as error:
            needs = NEEDED.get(format)
            if needs is None:
                raise
            raise ImportError(
                f'format="{format}" needs {needs}: pip install {needs} ({error})', name=error.name
            ) from error


def _has_no_inputs(model: keras.Model) -> bool:
    """Of a Sequential that was called on a structure, and of what was never called."""
    if isinstance(model, keras.Sequential):
        return not compat.knows_its_input(model)
    return not model.built


def _with_flat_inputs(model: keras.Model) -> tuple[keras.Model, list[Any]]:
    """The model with a list of inputs, and its signature.

    Keras's exporter to ONNX knows no dict of inputs, and no model that has not been called.
    """
    specs = [
        keras.InputSpec(shape=x.shape, dtype=x.dtype, name=x.name.replace("/", "_"))
        for x in model.inputs
    ]
    inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name) for x in model.inputs]
    given = inputs[0]  # a Sequential that was never called has no `input` to tell
    if not isinstance(model, keras.Sequential):
        given = keras.tree.pack_sequence_as(model.input, inputs)
    outputs = model(given)
    flat = keras.Model(inputs, keras.tree.flatten(outputs), name=model.name)
    return flat, specs if len(specs) == 1 else [specs]
