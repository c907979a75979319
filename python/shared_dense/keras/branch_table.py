"""The table of `SharedDense(branches=...)`: what it may say, and what it means."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from shared_dense.keras.activations import activation_of
from shared_dense.keras.one_kernel import BIAS, KERNEL
from shared_dense.keras.structures import Width
from shared_dense.runtime.suggestions import nearest


@dataclasses.dataclass(frozen=True)
class Branch:
    """What one input uses. The fields are the keys of its entry in the table."""

    kernel: str = KERNEL
    bias: str | None = BIAS
    activation: Callable | None = None
    trains_kernel: bool = True
    in_features: int | None = None


KEYS = tuple(field.name for field in dataclasses.fields(Branch))


def read(branches: Any, title: str) -> dict[str, dict[str, Any]]:
    """The table as given, its activations as functions.

    Raises:
        ValueError: it is no dict of dicts, a key is unknown, or a value does not fit.
    """
    if not isinstance(branches, dict) or not branches:
        raise ValueError(
            f"{title}: branches={branches!r}; wanted a dict with an entry for each input, such as "
            '{"query": {}, "document": {"bias": "document"}}.'
        )
    table = {}
    for name, spec in branches.items():
        _check_name(name, "a branch's name", title)
        entry = f"branches[{name!r}]"
        if not isinstance(spec, dict):
            raise ValueError(
                f"{title}: {entry} is {spec!r}; wanted a dict with any of {listed(KEYS)} ({{}} "
                "for the defaults)."
            )
        for key in spec:
            if key not in KEYS:
                raise ValueError(
                    f"{title}: {entry} has the unknown key {key!r}{nearest(key, KEYS)}. The keys "
                    f"are {listed(KEYS)}."
                )
        spec = dict(spec)
        _check_values(spec, entry, title)
        if "activation" in spec:
            spec["activation"] = activation_of(spec["activation"], f"{title}: {entry}")
        table[name] = spec
    return table


def _check_values(spec: dict[str, Any], entry: str, title: str) -> None:
    if "kernel" in spec:
        _check_name(spec["kernel"], f"{entry}['kernel']", title)
    if spec.get("bias") is not None:
        _check_name(spec["bias"], f"{entry}['bias'] (None for no bias)", title)
    if not isinstance(spec.get("trains_kernel", True), bool):
        raise ValueError(
            f"{title}: {entry}['trains_kernel'] is {spec['trains_kernel']!r}; wanted True or False."
        )
    width = spec.get("in_features")
    if width is not None and (type(width) is not int or width <= 0):
        raise ValueError(
            f"{title}: {entry}['in_features'] is {width!r}; wanted a positive integer, the width "
            "of this branch's inputs."
        )


def _check_name(name: Any, what: str, title: str) -> None:
    # A name is part of a weight's, where Keras allows no slash.
    if not isinstance(name, str) or not name or "/" in name:
        raise ValueError(
            f"{title}: {what} is {name!r}; wanted a string that is not empty and has no '/'."
        )


def resolve(
    table: dict[str, dict[str, Any]], activation: Callable | None, use_bias: bool
) -> dict[str, Branch]:
    """The branches, with the layer's defaults where the table is silent."""
    defaults = {"bias": BIAS if use_bias else None, "activation": activation}
    return {name: Branch(**{**defaults, **spec}) for name, spec in table.items()}


def widths(branches: dict[str, Branch], title: str) -> dict[str, Width]:
    """By kernel, the widths that the table itself says.

    Raises:
        ValueError: two branches of one kernel say different ones.
    """
    said: dict[str, Width] = {}
    for name, branch in branches.items():
        if branch.in_features is None:
            continue
        width = Width(branch.in_features, f"branches[{name!r}]")
        first = said.setdefault(branch.kernel, width)
        if first.size != width.size:
            raise ValueError(
                f"{title}: {width.source} has in_features={width.size}, but {first.source} has "
                f"in_features={first.size}, and both use kernel {branch.kernel!r}. A kernel is "
                "shared among inputs of one width; give one of the branches another kernel."
            )
    return said


def listed(names: Iterable[str]) -> str:
    """The names as an error quotes them."""
    return ", ".join(map(repr, names))
