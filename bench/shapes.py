"""The shapes that are timed."""

from __future__ import annotations

import re
from typing import NamedTuple


class Shape(NamedTuple):
    """One kernel and the inputs that share it."""

    rows: tuple[int, ...]  # per input
    in_features: int
    units: int

    @property
    def name(self) -> str:
        """'8x1 1024->1024', or '2x[2000,500] 64->1' where the inputs differ in rows."""
        count, rows = len(self.rows), set(self.rows)
        each = str(self.rows[0]) if len(rows) == 1 else f"[{','.join(map(str, self.rows))}]"
        return f"{count}x{each} {self.in_features}->{self.units}"

    def flops(self, backward: bool) -> int:
        """Of the products: one forward, two more backward."""
        return 2 * sum(self.rows) * self.in_features * self.units * (3 if backward else 1)


def parse(name: str) -> Shape:
    """The shape of a name: `parse(shape.name) == shape`.

    Raises:
        ValueError: the text is no name of a shape; the message says what is.
    """
    found = re.fullmatch(r"\s*(\d+)x(\d+|\[[\d\s,]+\])\s+(\d+)->(\d+)\s*", name)
    wanted = "write '8x3 1000->700' (8 inputs of 3 rows) or '2x[2000,500] 64->1' (rows of each)"
    if found is None:
        raise ValueError(f"{name!r} is no shape; {wanted}")
    count, each, in_features, units = found.groups()
    if each.startswith("["):
        rows = tuple(int(text) for text in each[1:-1].split(",") if text.strip())
    else:
        rows = (int(each),) * int(count)
    if len(rows) != int(count):
        raise ValueError(f"{name!r} has {count} inputs, but rows for {len(rows)}; {wanted}")
    shape = Shape(rows, int(in_features), int(units))
    if not rows or min(*rows, shape.in_features, shape.units) < 1:
        raise ValueError(f"{name!r} has a size of 0, which takes no time")
    return shape


SHAPES = [
    # Few rows: reading the kernel is the work.
    Shape((1,) * 1, 4096, 4096),
    Shape((1,) * 2, 1024, 1024),
    Shape((1,) * 4, 512, 512),
    Shape((1,) * 8, 1024, 1024),
    Shape((1,) * 8, 4096, 4096),
    # Small batches through several towers, views or crops.
    Shape((8,) * 8, 1024, 1024),
    Shape((32,) * 2, 784, 128),
    Shape((32,) * 16, 512, 512),
    Shape((4,) * 32, 256, 256),
    Shape((16,) * 64, 128, 128),
    Shape((1,) * 128, 768, 768),
    Shape((1, 7, 33, 120), 640, 96),
    # Many rows: arithmetic is the work.
    Shape((128,) * 2, 300, 100),
    Shape((256,) * 4, 768, 768),
    Shape((1024,) * 2, 1024, 1024),
    Shape((64,) * 2, 2048, 8192),
    # Heads over a feature pyramid, scores, and sizes that no block divides.
    Shape((4000, 1000, 250, 60, 15), 256, 3),
    Shape((4000, 1000, 250, 60, 15), 256, 12),
    Shape((2000, 500), 64, 1),
    Shape((16,) * 3, 17, 23),
]
