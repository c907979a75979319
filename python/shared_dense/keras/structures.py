"""Structures of inputs: their leaves, named as a user reaches them, and what shapes may share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import keras


class Shape(NamedTuple):
    """The shape of one input, the expression that reaches it, and the kernel it is to meet."""

    name: str
    sizes: Any
    kernel: str


class Width(NamedTuple):
    """How wide a kernel's inputs are, and what says so."""

    size: int
    source: str


def is_shape(value: Any) -> bool:
    """Whether this is one shape, not a structure of them. Shapes read from JSON are lists."""
    return isinstance(value, (list, tuple)) and all(
        size is None or isinstance(size, Integral) for size in value
    )


def is_tensor(value: Any) -> bool:
    """Whether this is one input, or what stands in its place, not a structure of them."""
    return not isinstance(value, (dict, list, tuple))


def known_shape(x: Any) -> tuple[int | None, ...] | None:
    """Static shape of a tensor; of one whose rank is unknown, the least that a layer takes."""
    shape = getattr(x, "shape", None)
    if shape is None:
        return None
    return (None, None) if getattr(shape, "rank", 0) is None else tuple(shape)


def fits(inputs: Any, width: int) -> bool:
    """Whether these are eager tensors of which `check` would say nothing: sooner known so."""
    xs = keras.tree.flatten(inputs)
    if not are_eager(xs):
        return False
    from shared_dense.runtime import compat

    return all(len(shape) >= 2 and shape[-1] == width for shape in compat.shapes(xs))


def are_eager(xs: Sequence[Any]) -> bool:
    """Whether these are all TensorFlow's tensors, outside of graphs."""
    if keras.backend.backend() != "tensorflow":
        return False
    from shared_dense.runtime import compat

    return compat.all_eager(xs)


def leaves(
    structure: Any, is_leaf: Callable[[Any], bool], name: str = "inputs"
) -> Iterator[tuple[str, Any]]:
    """Leaves of a structure, each with the expression that reaches it: inputs['query']."""
    if is_leaf(structure):
        yield name, structure
    elif isinstance(structure, dict):
        for key, value in structure.items():
            yield from leaves(value, is_leaf, f"{name}[{key!r}]")
    elif isinstance(structure, (list, tuple)):
        for i, value in enumerate(structure):
            yield from leaves(value, is_leaf, f"{name}[{i}]")
    else:
        yield name, structure


def check(
    title: str,
    shapes: Iterable[Shape],
    built: Mapping[str, Width],
    rule: Callable[[str, int, int], str],
    makes_kernels: bool = True,
) -> dict[str, Width]:
    """The width of each kernel that these inputs meet, once they are known to be fit for it.

    Args:
        title: names the layer in errors.
        shapes: of the inputs.
        built: the widths that are settled; those of other kernels follow from the inputs.
        rule: given a kernel's name, its width and another, what an input of that width offends
            against.
        makes_kernels: whether kernels are to be as wide as the inputs say, who then must say it.

    Raises:
        ValueError: there are no inputs, one is None or no shape, a rank is below 2, or a width is
            not the kernel's or (before there is a kernel) its first input's, or is unknown where
            it makes a kernel.
    """
    shapes = list(shapes)
    # Before the first call Keras gives None for an empty structure and () for a scalar.
    if not shapes or [shape[:2] for shape in shapes] == [("inputs", None)]:
        raise ValueError(
            f"{title}: inputs is None, empty or a scalar; pass at least one tensor, "
            "[batch, ..., width]."
        )
    widths = dict(built)
    for name, sizes, kernel in shapes:
        if sizes is None:
            raise ValueError(
                f"{title}: {name} is None; pass a tensor, and leave out what there is none of."
            )
        if isinstance(sizes, list) and not sizes:
            raise ValueError(
                f"{title}: {name} is empty; in a model, leave out what there is none of."
            )
        if len(sizes) < 2:
            raise ValueError(
                f"{title}: {name} has shape {tuple(sizes)}; wanted rank >= 2, "
                "[batch, ..., width]. A single example needs a batch axis: x[None]."
            )
        if sizes[-1] is None and kernel not in widths:
            if not makes_kernels:
                continue
            raise ValueError(
                f"{title}: the last axis of {name}, shape {tuple(sizes)}, is unknown; the kernel "
                "is made as wide as that. Give it a size in keras.Input."
            )
        width = widths.setdefault(kernel, Width(sizes[-1], name))
        if sizes[-1] not in (None, width.size):
            raise ValueError(
                f"{title}: {name} is incompatible with the layer: it has width {sizes[-1]} (shape "
                f"{tuple(sizes)}), but {width.source} has width {width.size}. "
                f"{rule(kernel, width.size, sizes[-1])}"
            )
    return widths


def one_width(units: int, width: int, seen: int) -> str:
    """What an input of another width than a layer's offends against, and what to do."""
    if seen == units:
        return (
            "A kernel is shared among inputs of one width; to apply a layer to its own output "
            f"(chaining), its units and its width must be equal (here units={units}, "
            f"width={width}). Use another layer for another width."
        )
    return (
        "A kernel is shared among inputs of one width; use another layer for inputs of another "
        "width, or branches with a kernel for each."
    )
