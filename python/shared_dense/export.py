"""export: a model as a file for a runtime that knows no op of ours."""

from __future__ import annotations

import os
from typing import Any

import keras

from shared_dense import paths


def export(
    model: keras.Model,
    filepath: str | os.PathLike,
    format: str = "tf_saved_model",
    **options: Any,
) -> None:
    """Exports a model without the op, to be run where this library is not.

    As `model.export`, whose formats, options and errors it has, but that the file holds
    TensorFlow's own ops: each layer's call is one product over the rows of its inputs that share
    bias and activation. `model.export` to "onnx", "litert" or "openvino" does the same by itself;
    its SavedModel holds the op.

        shared_dense.export(model, "served")                       # TensorFlow, TensorFlow Serving
        shared_dense.export(model, "model.onnx", format="onnx")    # with tf2onnx installed
        shared_dense.export(model, "model.tflite", format="litert")
        shared_dense.export(model, "model.xml", format="openvino")  # with openvino installed

    An ONNX file has the inputs of `model.inputs`, by name, and its outputs in the order in which
    Keras flattens them, `keras.tree.flatten(model.output)`.

    What the model calls through a `tf.function` of yours that has run before keeps the path of its
    first trace: make that function anew.

    Args:
        model: a built `keras.Model`.
        filepath: where to: a folder for "tf_saved_model", else a file.
        format: "tf_saved_model", "onnx", "litert" or "openvino".
        **options: what `model.export` takes: `verbose`, `input_signature`, and those of the format.

    Raises:
        TypeError: `model` is no Keras model.
        ValueError, ImportError: as `model.export`, of the format or of what it needs.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"model is {model!r}; pass a keras.Model. (For a tf.Module or a function, trace and "
            "save it inside shared_dense.fallback().)"
        )
    if format == "onnx" and getattr(model, "inputs", None) and "input_signature" not in options:
        model, options["input_signature"] = _with_flat_inputs(model)
    with paths.exporting():
        model.export(os.fspath(filepath), format=format, **options)


def _with_flat_inputs(model: keras.Model) -> tuple[keras.Model, list[Any]]:
    """The model with a list of inputs, and its signature.

    Keras's exporter to ONNX knows no dict of inputs, and no model that has not been called.
    """
    specs = [
        keras.InputSpec(shape=x.shape, dtype=x.dtype, name=x.name.replace("/", "_"))
        for x in model.inputs
    ]
    flat = keras.Model(list(model.inputs), list(model.outputs), name=model.name)
    return flat, specs if len(specs) == 1 else [specs]
