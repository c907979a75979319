"""Which activations the op fuses, by name and by function."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from shared_dense.ops.composition import ACTIVATIONS
from shared_dense.runtime.suggestions import nearest

# f'(z) cannot be had from f(z) for these: the pre-activation is kept or made again.
NEED_PRE_ACTIVATION = frozenset({"silu", "gelu", "gelu_tanh"})
# The same function under the other name that Keras and TensorFlow give it.
_ALIASES = {"swish": "silu"}


@functools.cache
def _known_functions(keras: Any) -> dict[Callable, str]:
    functions = {
        tf.identity: "linear",
        tf.nn.relu: "relu",
        tf.nn.relu6: "relu6",
        tf.nn.leaky_relu: "leaky_relu",
        tf.nn.elu: "elu",
        tf.nn.sigmoid: "sigmoid",
        tf.nn.tanh: "tanh",
        tf.nn.silu: "silu",
        tf.nn.gelu: "gelu",
    }
    if keras is not None:
        for name in ACTIVATIONS:
            function = getattr(keras.activations, name, None)
            if function is not None:
                functions[function] = name
    return functions


class Resolved(NamedTuple):
    """What the op fuses, and the function that is left to apply to its result, if any."""

    name: str
    after: Callable | None


def resolve(activation: str | Callable | None) -> Resolved:
    """What stands for an activation.

    Args:
        activation: None, a name, a function of `tf.nn` or `keras.activations` with its defaults,
            or any other function of one tensor.

    Raises:
        ValueError: a name that nobody knows.
        TypeError: neither a name nor a function.
    """
    if activation is None:
        return Resolved("linear", None)
    if isinstance(activation, str):
        name = _ALIASES.get(activation, activation)
        if name not in ACTIVATIONS:
            raise ValueError(
                f"activation={activation!r} is unknown to shared_matmul"
                f"{nearest(activation, [*ACTIVATIONS, *_ALIASES])}; it fuses "
                f"{', '.join(sorted(ACTIVATIONS))}. Pass any other as a function."
            )
        return Resolved(name, None)
    if not callable(activation):
        raise TypeError(
            "activation must be None, a name, a function, or a list of these, one per input; got "
            f"{activation!r}"
        )
    try:
        name = _known_functions(sys.modules.get("keras")).get(activation)
    except TypeError:  # an unhashable callable
        name = None
    return Resolved("linear", activation) if name is None else Resolved(name, None)


def resolve_each(
    activations: Sequence[Any], one: Callable[[Any], Resolved] = resolve
) -> list[Resolved]:
    """`one` of each of a list, in which the same may come many times."""
    distinct = {id(activation): activation for activation in activations}
    found = {key: one(activation) for key, activation in distinct.items()}
    return [found[id(activation)] for activation in activations]
