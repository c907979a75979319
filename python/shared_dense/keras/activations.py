"""The activation of a layer, as its user names it."""

from __future__ import annotations

from typing import Any

import keras

from shared_dense.runtime.suggestions import nearest


def activation_of(activation: Any, title: str) -> Any:
    """`keras.activations.get`, whose ValueError names the layer and a name that Keras knows."""
    try:
        return keras.activations.get(activation)
    except ValueError as error:
        if not isinstance(activation, str):
            raise ValueError(f"{title}: {error}") from error
    names = {name for name in dir(keras.activations) if not name.startswith("_")}
    names -= {"get", "serialize", "deserialize"}
    raise ValueError(
        f"{title}: activation={activation!r} is unknown to Keras"
        f"{nearest(activation, sorted(names))}. Pass a name of keras.activations, or a function."
    )
