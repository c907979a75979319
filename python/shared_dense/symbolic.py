"""What Keras remembers of calls on symbolic tensors."""

from __future__ import annotations

from typing import Any

import keras


def largest_call(layer: keras.layers.Layer) -> tuple[Any, Any] | None:
    """The inputs and outputs of a layer's symbolic call with the most outputs; None before any.

    Both in the structure of the inputs, which Keras flattens where it keeps the outputs. The first
    call of several that are as large. The layer takes its inputs as its first argument.
    """
    nodes = getattr(layer, "_inbound_nodes", [])
    if not nodes:
        return None
    node = max(nodes, key=lambda node: len(node.outputs))
    inputs = node.arguments.args[0]
    return inputs, keras.tree.pack_sequence_as(inputs, node.outputs)
