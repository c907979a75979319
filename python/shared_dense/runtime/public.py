"""What the package's users name."""

from __future__ import annotations

from typing import TypeVar

Thing = TypeVar("Thing")


def public(thing: Thing) -> Thing:
    """Has a class or a function say that it is the package's, as its users have it.

    Pickles and saved models name where a thing is from, and rooms are moved.
    """
    thing.__module__ = "shared_dense"
    return thing
