"""Who is calling: what the frames of the stack say that no argument does."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType

import keras

_sequential_call = keras.Sequential.call.__code__


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
            if count > 1 and getattr(found["self"], "_functional", None) is not None:
                return found["self"].name, count
        frame = frame.f_back
    return None


def is_of_keras(frame: FrameType) -> bool:
    """Whether Keras's own code runs in a frame."""
    return (frame.f_globals.get("__name__") or "").partition(".")[0] == "keras"


def above(modules: Mapping[str, str]) -> str:
    """What stands for the first of these modules, or a package of one, whose code is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        while name:
            if name in modules:
                return modules[name]
            name = name.rpartition(".")[0]
        frame = frame.f_back
    return ""


def callers_level() -> int:
    """The stacklevel, for a warning of the function that asks, of the first user's frame."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None:
        package = (frame.f_globals.get("__name__") or "").partition(".")[0]
        if package not in ("shared_dense", "keras", "tensorflow"):
            break
        frame, level = frame.f_back, level + 1
    return level
