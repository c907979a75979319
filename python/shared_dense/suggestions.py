"""What a user may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(name: Any, options: Iterable[str]) -> str:
    """A question that names what the user may have meant, or nothing."""
    close = difflib.get_close_matches(str(name), list(options), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def activation_of(activation: Any, title: str) -> Any:
    """`keras.activations.get`, whose ValueError names the layer and a name that Keras knows."""
    import keras

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
