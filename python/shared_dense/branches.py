"""The table of `SharedDense(branches=...)`: what it may say, and what it means."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import keras

from shared_dense.structures import Shape, Width, is_shape, is_tensor
from shared_dense.suggestions import activation_of, nearest

# Kernel and bias of a branch that names none, and of a layer without branches.
KERNEL, BIAS = "kernel", "bias"


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
                f"{title}: {entry} is {spec!r}; wanted a dict with any of {_listed(KEYS)} ({{}} "
                "for the defaults)."
            )
        for key in spec:
            if key not in KEYS:
                raise ValueError(
                    f"{title}: {entry} has the unknown key {key!r}{nearest(key, KEYS)}. The keys "
                    f"are {_listed(KEYS)}."
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


def check_names(inputs: Any, branches: Iterable[str], title: str) -> None:
    """Raises ValueError unless inputs is a dict that has names of branches only."""
    branches = tuple(branches)
    if not isinstance(inputs, dict):
        raise ValueError(
            f"{title}: inputs is {_kind(inputs)}; a layer with branches takes a dict, "
            f"a tensor for any of the names {_listed(branches)}."
        )
    if not inputs:
        raise ValueError(
            f"{title}: inputs is empty; pass a tensor for at least one of the names "
            f"{_listed(branches)}."
        )
    for name in inputs:
        if name not in branches:
            raise ValueError(
                f"{title}: inputs has {name!r}, which is none of the branches"
                f"{nearest(name, branches)}. The branches are {_listed(branches)}."
            )


def _kind(inputs: Any) -> str:
    """What a call was made with, seen from the inputs or from their shapes."""
    # Before the first call Keras gives None for an empty structure.
    if inputs is None or (isinstance(inputs, (list, tuple)) and not inputs):
        return "None or empty"
    if is_shape(inputs) or is_tensor(inputs):
        return "one tensor"
    return f"a {type(inputs).__name__}"


def check_built(
    shapes: Iterable[Shape],
    branches: Mapping[str, Branch],
    built: Container[str],
    title: str,
) -> None:
    """Raises ValueError for an input whose kernel a built layer has not."""
    for name, _, kernel in shapes:
        if kernel not in built:
            # One of the branches for each kernel.
            needed = {branch.kernel: name for name, branch in branches.items()}.values()
            raise ValueError(
                f"{title}: {name} uses kernel {kernel!r}, which no input of the call that built "
                "the layer used, and a built layer makes no new weights. Call it first, or build "
                "it, with inputs for all its kernels, as in layer.build({"
                f"{', '.join(f'{branch!r}: (None, width)' for branch in needed)}"
                "}), or say 'in_features' in the table."
            )


def one_width(kernel: str) -> str:
    """What a branch of another width than its kernel's offends against, and what to do."""
    return (
        f"Both are for kernel {kernel!r}. A kernel is shared among inputs of one width; give a "
        "branch of another width another kernel."
    )


def make_weights(
    layer: keras.layers.Dense, branches: Mapping[str, Branch], widths: Mapping[str, Width]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Kernels and biases by name, made as Dense makes its own; none where no width is known."""
    used = [branch for branch in branches.values() if branch.kernel in widths]
    kernels = {
        name: layer.add_weight(
            name=_weight_name(name, "kernel"),
            shape=(widths[name].size, layer.units),
            initializer=_fresh(layer.kernel_initializer),
            regularizer=layer.kernel_regularizer,
            constraint=layer.kernel_constraint,
        )
        for name in dict.fromkeys(branch.kernel for branch in used)
    }
    biases = {
        name: layer.add_weight(
            name=_weight_name(name, "bias"),
            shape=(layer.units,),
            initializer=_fresh(layer.bias_initializer),
            regularizer=layer.bias_regularizer,
            constraint=layer.bias_constraint,
        )
        for name in dict.fromkeys(branch.bias for branch in used)
        if name is not None
    }
    return kernels, biases


def _weight_name(name: str, kind: str) -> str:
    """'kernel' for the one of no other name, else 'text_kernel'; likewise 'bias'."""
    return kind if name == kind else f"{name}_{kind}"


def _fresh(initializer: Any) -> Any:
    """One for a single weight: called again, an initializer gives the same numbers again."""
    return initializer.clone() if hasattr(initializer, "clone") else initializer


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
