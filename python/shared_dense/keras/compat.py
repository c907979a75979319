"""The one file that touches what Keras keeps to itself: its modules, frames and private attributes.

TensorFlow's are in `runtime/compat.py`, which only those import who know that TensorFlow is there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

import keras

try:
    from keras.src.backend.common.variables import get_autocast_scope as _autocast_scope
    from keras.src.distribution.distribution_lib import distribution as _distribution
except ImportError:
    _autocast_scope = None

_sequential_call = keras.Sequential.call.__code__


def keras_adds_nothing(layer: keras.layers.Layer, xs: Sequence[Any]) -> bool:
    """Whether `Layer.__call__` on tensors for which `all_eager` holds would do what `call` does.

    Its ways of a layer that is built: to cast, to mask, to record losses, to make a graph, to
    lay out, to quantize. `python -m bench.calls` shows what going through them takes.
    """
    from shared_dense.runtime import compat

    return (
        _autocast_scope is not None
        and layer.built
        and layer._called
        and not layer._remat_mode
        and layer.quantization_mode is None
        and layer.activity_regularizer is None
        and layer.compute_dtype == layer.variable_dtype == xs[0].dtype.name
        and _autocast_scope() is None
        and _distribution() is None
        and compat.all_of_dtype(xs, xs[0].dtype)
        and not any(map(vars, xs))  # where Keras keeps a mask
    )


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


def knows_its_input(model: keras.Sequential) -> bool:
    """Whether a Sequential was given an input, or called on a tensor."""
    return getattr(model, "_functional", None) is not None


def dropping_sequential(caller: FrameType) -> tuple[str, int] | None:
    """Name of the `keras.Sequential` in whose call a frame is, and how many inputs it was given.

    None unless it drops all but the first, as one does that knows its one input. Keras warns.
    """
    # A user's own call of a layer, which is in no model's: the frames further up are not looked at.
    if caller.f_code.co_name != "call" and not is_of_keras(caller):
        return None
    frame: FrameType | None = caller
    while frame is not None:
        if frame.f_code is _sequential_call:
            found = frame.f_locals
            # Of a dict it takes the input by its name, or says that there is none.
            is_dict = isinstance(found["inputs"], dict)
            count = 0 if is_dict else len(keras.tree.flatten(found["inputs"]))
            if count > 1 and knows_its_input(found["self"]):
                return found["self"].name, count
        frame = frame.f_back
    return None


def is_of_keras(frame: FrameType) -> bool:
    """Whether Keras's own code runs in a frame."""
    return (frame.f_globals.get("__name__") or "").partition(".")[0] == "keras"


def stored(layer: keras.layers.Layer) -> Any:
    """The kernel of a Dense or the table of an Embedding as the layer stores it; None if nowhere.

    Quantized, it is of whole numbers; LoRA's part is not in it.
    """
    name = "_embeddings" if isinstance(layer, keras.layers.Embedding) else "_kernel"
    return getattr(layer, name, None)


def set_trainable(layer: keras.layers.Layer, value: bool, but: keras.layers.Layer) -> None:
    """What the setter of `Layer.trainable` does, for all sublayers except one."""
    layer._trainable = value
    for variable in layer._trainable_variables:
        variable.trainable = value
    for inner in layer._layers:
        if inner is not but:
            inner.trainable = value


@contextlib.contextmanager
def replaced(layer: keras.layers.Layer, sublayer: keras.layers.Layer) -> Iterator[None]:
    """Forgets a sublayer of a layer that may be built, and takes another that is set inside."""
    layer._tracker.unlock()
    layer._tracker.untrack(sublayer)
    try:
        yield
    finally:
        layer._tracker.lock()
