"""What is checked and timed on a GPU."""

from __future__ import annotations

from typing import NamedTuple

from bench.shapes import Shape

ITEM_BYTES = {"float32": 4, "tf32": 4, "float64": 8, "bfloat16": 2, "float16": 2}


class Case(NamedTuple):
    """One line of the table. `tf32` is float32 where TensorFloat-32 is allowed."""

    shape: Shape
    dtype: str = "bfloat16"
    backward: bool = False

    @property
    def name(self) -> str:
        """'64x16 1024->1024 bfloat16 backward'."""
        return f"{self.shape.name} {self.dtype}{' backward' if self.backward else ''}"

    @property
    def argument(self) -> str:
        """As `measure` takes it."""
        sizes = (self.shape.in_features, self.shape.units, *self.shape.rows)
        return ",".join([self.dtype, "backward" if self.backward else "forward", *map(str, sizes)])

    @property
    def flops(self) -> int:
        """Of the products: one forward, two backward."""
        return self.shape.flops(False) * (2 if self.backward else 1)

    @property
    def bytes_moved(self) -> int:
        """Each operand once and each result once: no less can be moved."""
        rows, (_, k, u) = sum(self.shape.rows), self.shape
        # Forward X, Y, W and the bias; backward X, dY, dX, W and dW.
        items = rows * (2 * k + u) + 2 * k * u if self.backward else rows * (k + u) + k * u + u
        return items * ITEM_BYTES[self.dtype]

    @property
    def dkernel_bytes(self) -> int:
        """Of one kernel gradient."""
        return self.shape.in_features * self.shape.units * ITEM_BYTES[self.dtype]


SKINNY = [
    Shape(rows, k, u)
    for k, u in ((4096, 4096), (8192, 8192), (4096, 16384))
    for rows in ((1,), (1,) * 8, (16,), (1,) * 16)
]
MANY_SMALL = Shape((16,) * 64, 1024, 1024)
LARGE = Shape((4096,) * 2, 4096, 4096)

CASES = [
    *map(Case, SKINNY),
    Case(MANY_SMALL),
    Case(LARGE),
    Case(Shape((16,) * 64, 1024, 1024), "float16"),
    Case(LARGE, "float16"),
    Case(Shape((1,) * 128, 768, 768)),
    Case(Shape((256,) * 8, 2048, 2048)),
    Case(Shape((5, 1, 23, 640, 3), 1032, 1544)),
    *(
        Case(shape, dtype)
        for dtype in ("tf32", "float32")
        for shape in (Shape((1,) * 8, 4096, 4096), MANY_SMALL, Shape((2048,) * 2, 4096, 4096))
    ),
    Case(Shape((256,) * 2, 1024, 1024), "float64"),
    Case(SKINNY[2], backward=True),
    Case(MANY_SMALL, backward=True),
    Case(LARGE, backward=True),
    Case(Shape((2048,) * 2, 4096, 4096), "tf32", backward=True),
    Case(Shape((256,) * 2, 1024, 1024), "float32", backward=True),
]
