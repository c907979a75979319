"""The shapes that are timed, each under the use that it comes from."""

from __future__ import annotations

import re
from typing import NamedTuple


def _inputs(rows: tuple[int, ...]) -> str:
    """'8x1', or '2x[2000,500]' where the inputs differ in rows."""
    each = str(rows[0]) if len({*rows}) == 1 else f"[{','.join(map(str, rows))}]"
    return f"{len(rows)}x{each}"


class Shape(NamedTuple):
    """One kernel and the inputs that share it."""

    rows: tuple[int, ...]  # per input
    in_features: int
    units: int

    @property
    def name(self) -> str:
        """'8x1 1024->1024', or '2x[2000,500] 64->1' where the inputs differ in rows."""
        return f"{_inputs(self.rows)} {self.in_features}->{self.units}"

    def flops(self, backward: bool) -> int:
        """Of the products: one forward, two more backward."""
        return 2 * sum(self.rows) * self.in_features * self.units * (3 if backward else 1)


class Workload(NamedTuple):
    """A shape, and where it occurs."""

    group: str  # as below, or OWN
    use: str
    shape: Shape

    def described(self) -> dict:
        """As the rows of the results have it."""
        return {
            "group": self.group,
            "use": self.use,
            "shape": self.shape.name,
            "inputs": len(self.shape.rows),
            "rows": list(self.shape.rows),
            "in_features": self.shape.in_features,
            "units": self.shape.units,
        }


class Stack(NamedTuple):
    """A whole model: several inputs through one stack of layers, relu between them."""

    model: str  # of STACKS, or OWN
    rows: tuple[int, ...]  # per input
    widths: tuple[int, ...]  # of the inputs, then of each layer

    @property
    def name(self) -> str:
        """'2x64 784->256->64'"""
        return f"{_inputs(self.rows)} {'->'.join(map(str, self.widths))}"

    def described(self) -> dict:
        """As the rows of the results have it: '2x64, 784->256->64'."""
        return {"model": self.model, "shape": self.name.replace(" ", ", ")}


def parse(name: str) -> Shape:
    """The shape of a name: `parse(shape.name) == shape`.

    Raises:
        ValueError: the text is no name of a shape; the message says what is.
    """
    found = parse_any(name)
    if isinstance(found, Stack):
        raise ValueError(f"{name!r} is a stack of layers; a shape has one")
    return found


def parse_any(name: str) -> Shape | Stack:
    """The shape of a name, or the stack, an OWN one, of a name with more than two widths.

    Raises:
        ValueError: the text is neither; the message says what is.
    """
    found = re.fullmatch(r"\s*(\d+)x(\d+|\[[\d\s,]+\])\s+(\d+(?:\s*->\s*\d+)+)\s*", name)
    wanted = (
        "write '8x3 1000->700' (8 inputs of 3 rows), '2x[2000,500] 64->1' (rows of each) or "
        "'2x128 512->512->256' (a stack of layers)"
    )
    if found is None:
        raise ValueError(f"{name!r} is no shape; {wanted}")
    count, each, layers = found.groups()
    widths = tuple(int(text) for text in layers.split("->"))
    if each.startswith("["):
        rows = tuple(int(text) for text in each[1:-1].split(",") if text.strip())
    else:
        rows = (int(each),) * int(count)
    if len(rows) != int(count):
        raise ValueError(f"{name!r} has {count} inputs, but rows for {len(rows)}; {wanted}")
    if not rows or min(*rows, *widths) < 1:
        raise ValueError(f"{name!r} has a size of 0, which takes no time")
    return Shape(rows, *widths) if len(widths) == 2 else Stack(OWN, rows, widths)


OWN = "own"  # the group of shapes, and the model of stacks, that the user gives
# Groups. skinny: few rows, reading the kernel is the work; middle: small batches through several
# towers, views or crops; large: many rows, arithmetic, or moving the rows, is the work.
WORKLOADS = [
    Workload(group, use, parse(name))
    for group, use, name in (
        ("skinny", "single request, wide layer", "1x1 4096->4096"),
        ("skinny", "two-tower query serving", "2x1 1024->1024"),
        ("skinny", "pair of pairs, scored online", "4x1 512->512"),
        ("skinny", "multi-crop projection, one image", "8x1 1024->1024"),
        ("skinny", "eight decoding streams", "8x1 4096->4096"),
        ("skinny", "per-timestep head, one sequence", "128x1 768->768"),
        ("middle", "Siamese batch", "2x32 784->128"),
        ("middle", "multi-crop projection", "8x8 1024->1024"),
        ("middle", "sixteen-view encoder", "16x32 512->512"),
        ("middle", "candidates ranked in lists", "32x4 256->256"),
        ("middle", "per-timestep head", "64x16 128->128"),
        ("middle", "bags of unequal size", "4x[1,7,33,120] 640->96"),
        ("middle", "triplets of table rows", "3x16 17->23"),
        ("large", "sentence pairs, word vectors", "2x128 300->100"),
        ("large", "four augmented views", "4x256 768->768"),
        ("large", "Siamese batch, wide", "2x1024 1024->1024"),
        ("large", "redundancy-reduction projector", "2x64 2048->8192"),
        ("large", "detection head, five levels: scores", "5x[4000,1000,250,60,15] 256->3"),
        ("large", "detection head, five levels: boxes", "5x[4000,1000,250,60,15] 256->12"),
        ("large", "node scores of two graphs", "2x[2000,500] 64->1"),
    )
]

STACKS = [
    Stack("Siamese MLP", (64, 64), (784, 256, 128, 64)),
    Stack("two-tower", (32, 32), (384, 512, 256)),
    Stack("detection head", (1600, 400, 100, 25, 9), (256, 256, 256, 24)),
    Stack("per-timestep head", (8,) * 24, (512, 512, 32)),
]

# Speed-up over plain reuse, as a map: every number of inputs with every number of rows of each.
GRID_INPUTS = (1, 2, 4, 8, 16, 32)
GRID_ROWS = (1, 4, 16, 64, 256)
GRID_SIZE = 512  # in and out features


def grid() -> list[Workload]:
    """The cells of the map, row by row."""
    return [
        Workload("grid", f"{n} inputs of {rows} rows", Shape((rows,) * n, GRID_SIZE, GRID_SIZE))
        for rows in GRID_ROWS
        for n in GRID_INPUTS
    ]
