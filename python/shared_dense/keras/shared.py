"""Shared: any Keras layer, applied to each of several inputs."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from shared_dense.keras.structured_layer import StructuredLayer
from shared_dense.keras.structures import is_shape, leaves
from shared_dense.runtime.public import public


@public
@keras.saving.register_keras_serializable(package="shared_dense")
class Shared(StructuredLayer, keras.layers.Wrapper):
    """Calls a layer on every input of a structure: what stands between two SharedDense.

        tower = [SharedDense(64, activation="relu"), Shared(keras.layers.Dropout(0.1)),
                 Shared(keras.layers.LayerNormalization()), SharedDense(32)]

    The inputs may differ in every axis in which the layer's inputs may differ from call to call.
    One set of weights serves all; each input is a call of its own, in the order in which Keras
    flattens the structure: Dropout draws anew for each; BatchNormalization normalizes each by its
    own mean and variance in training, and each moves the moving ones once.

    A `keras.Sequential` is gone through layer by layer: its SharedDense and TransposedDense take
    all inputs in one fused call, the other layers one input at a time.

        tower = Shared(keras.Sequential([SharedDense(64), keras.layers.Dropout(0.1), ...]))
        query, item = tower([queries, items])

    Input shape: those that the layer takes, in any structure.
    Output shape: those that it gives, in the same structure.

    Masks that inputs carry reach the layer, and those that it makes are on the outputs.

    Args:
        layer: a Keras layer or model that takes one tensor, and gives one.
        **kwargs: the arguments of every Keras layer.

    Raises:
        ValueError: `layer` is no Keras layer; or, from `build` or a call, there is no input, one
            is None, or the layer gives several tensors for one.
    """

    takes_ragged = True  # if its layer does

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any):
        _must_be_a_layer(layer)
        super().__init__(layer, **kwargs)
        self.supports_masking = True
        self.autocast = False  # the layer casts, to a dtype of its own

    def build(self, input_shape: Any) -> None:
        """Builds the layer for the shape of the first input."""
        shape = tuple(next(shape for _, shape in leaves(input_shape, is_shape)))
        if not self.layer.built:
            if type(self.layer).build is keras.layers.Layer.build:
                self.layer(keras.KerasTensor(shape))  # its own layers are built as it calls them
            else:
                self.layer.build(shape)
            self.layer.built = True
        self.built = True

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Applies the layer to each of the inputs; `mask` has their structure, or is None."""
        masks = [None] * len(keras.tree.flatten(inputs))
        if mask is not None:
            masks = keras.tree.flatten(mask)
        return _applied(self.layer, inputs, training, masks)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """None: the layer has put its masks on the outputs."""

    def compute_output_spec(self, inputs: Any, **kwargs: Any) -> Any:
        """What a call on these symbolic tensors gives: what the layer says of each."""
        for layer in (self.layer, *getattr(self.layer, "layers", ())):
            if isinstance(layer, StructuredLayer):
                layer._tie_again(inputs)
        return super().compute_output_spec(inputs, **kwargs)


def _must_be_a_layer(layer: Any) -> None:
    if isinstance(layer, keras.layers.Layer):
        return
    hint = "pass a Keras layer, or a keras.Sequential of several"
    if isinstance(layer, type):
        hint = f"pass an instance: {layer.__name__}(...)"
    elif type(layer).__module__.partition(".")[0] == "tf_keras":
        hint = "that is a layer of tf_keras; pass one of Keras 3"
    raise ValueError(f"Shared: layer is {layer!r}; {hint}.")


def _applied(layer: Any, inputs: Any, training: bool | None, masks: list[Any]) -> Any:
    if isinstance(layer, StructuredLayer):
        return layer(inputs, **_taken(layer, training=training))
    if type(layer) is keras.Sequential and not any(mask is not None for mask in masks):
        for inner in layer.layers:
            inputs = _applied(inner, inputs, training, masks)
        return inputs
    outputs = [
        layer(x, **_taken(layer, training=training, mask=mask))
        for x, mask in zip(keras.tree.flatten(inputs), masks, strict=True)
    ]
    for y in outputs:
        if isinstance(y, (dict, list, tuple)):
            raise ValueError(
                f"Shared: the layer {layer.name!r} gives a {type(y).__name__} for one input; "
                "Shared takes a layer that gives one tensor."
            )
    return keras.tree.pack_sequence_as(inputs, outputs)


def _taken(layer: Any, **arguments: Any) -> dict[str, Any]:
    """The arguments that are given, and that the layer's call takes."""
    parameters = inspect.signature(layer.call).parameters
    return {k: v for k, v in arguments.items() if v is not None and k in parameters}
