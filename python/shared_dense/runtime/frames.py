"""Who is calling: what the frames of the stack say that no argument does."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType


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
