"""What Keras remembers of calls on symbolic tensors."""

from __future__ import annotations

from typing import Any

import keras


def call_of(layer: keras.layers.Layer, largest: bool) -> tuple[Any, Any] | None:
    """The inputs and outputs of a layer's first symbolic call, or of the one with most outputs.

    Both in the structure of the inputs, which Keras flattens where it keeps the outputs. The layer
    takes its inputs as its first argument. None before any call, and for a subclass that gives
    another number of outputs.
    """
    nodes = getattr(layer, "_inbound_nodes", [])
    if not nodes:
        return None
    node = max(nodes, key=lambda node: len(node.outputs)) if largest else nodes[0]
    inputs = node.arguments.args[0] if node.arguments.args else None
    if len(keras.tree.flatten(inputs)) != len(node.outputs):
        return None
    return inputs, keras.tree.pack_sequence_as(inputs, node.outputs)
