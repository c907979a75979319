"""The least time that a shape can take on a machine: pure functions of sizes and measured rates.

    seconds >= FLOPs / FMA peak                     FLOPs = 2 M K U, three times that with gradients
    seconds >= bytes read / read bandwidth
    seconds >= bytes written / write bandwidth
    seconds >= bytes moved / best bandwidth         of reading, writing and copying

and the limit is the largest of the four. M is the number of stacked rows. The bytes are the least
that any program must move, every tensor once per product that needs it:

    forward     reads X, W, b               writes Y
    backward    reads dY, Y, X, W           writes dX, dW, db          (Y: the slope of relu)

The bandwidths are those of the smallest level (L2 of all threads, L3, DRAM) that holds all these
tensors at once, because the benchmark repeats one call on the same tensors. Reading, writing and
copying have bandwidths of their own: a cache, and a processor's link to memory, may move bytes both
ways at once. So no term adds reading to writing in time.

With cold weights, where every call takes another kernel, that comes from DRAM:

    seconds >= bytes of W / read bandwidth of DRAM

and the bandwidths of the other terms are those of the smallest level, where all else may lie.

Tensors a little larger than a level may find a part of themselves in it still, and come in a little
under the limit of the next.
"""

from __future__ import annotations

from typing import NamedTuple

from bench.shapes import Shape

ITEM_BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "half": 2}


class Level(NamedTuple):
    """A level of memory as all threads of a run see it together."""

    name: str
    capacity: int | None  # bytes; None for DRAM, which holds everything
    read: float  # bytes per second
    write: float  # bytes per second
    copy: float  # bytes read plus bytes written per second


class Machine(NamedTuple):
    """What a number of threads can do at best."""

    fma: dict[str, float]  # dtype: floating-point operations per second, a multiply-add being two
    levels: tuple[Level, ...]  # smallest first, from L2

    def peak(self, dtype: str) -> float:
        """Of products; those of half types are made in float32."""
        return self.fma["float64" if dtype == "float64" else "float32"]


class Traffic(NamedTuple):
    """Bytes of one call."""

    read: int
    written: int
    held: int  # of all its tensors


class Limit(NamedTuple):
    """The least time of a call, and what sets it."""

    seconds: float
    by: str  # "FMA", or the name of a level


def traffic(shape: Shape, backward: bool, item_bytes: int, bias: bool = True) -> Traffic:
    """Least bytes that a call reads and writes, and the bytes of its tensors together.

    Args:
        shape: the kernel and its inputs.
        backward: whether gradients of all inputs, the kernel and the bias are made as well.
        item_bytes: of one element.
        bias: whether there is one.
    """
    rows = sum(shape.rows)
    x, w, y = rows * shape.in_features, shape.in_features * shape.units, rows * shape.units
    b = shape.units if bias else 0
    read, written, held = x + w + b, y, x + w + b + y
    if backward:
        dx, dw, db, dy = x, w, b, y
        read += dy + y + x + w
        written += dx + dw + db
        held += dy + dx + dw + db
    return Traffic(read * item_bytes, written * item_bytes, held * item_bytes)


def level_of(held: int, machine: Machine) -> Level:
    """The smallest level that holds so many bytes."""
    return next(lv for lv in machine.levels if lv.capacity is None or held <= lv.capacity)


def _limit(flops: float, moved: Traffic, peak: float, level: Level) -> Limit:
    arithmetic = flops / peak
    memory = max(
        moved.read / level.read,
        moved.written / level.write,
        (moved.read + moved.written) / max(level.read, level.write, level.copy),
    )
    return Limit(arithmetic, "FMA") if arithmetic >= memory else Limit(memory, level.name)


def limit(
    shape: Shape,
    backward: bool,
    dtype: str,
    machine: Machine,
    bias: bool = True,
    cold: bool = False,
) -> Limit:
    """Least seconds of one call of the shape, in a dtype of ITEM_BYTES.

    Args:
        shape: the kernel and its inputs.
        backward: whether gradients are made as well.
        dtype: of all tensors.
        machine: what it can do.
        bias: whether there is one.
        cold: whether the kernel comes from DRAM.
    """
    if cold:
        warm, dram = floor(shape, backward, dtype, machine), machine.levels[-1]
        kernel = shape.in_features * shape.units * ITEM_BYTES[dtype] / dram.read
        return max(warm, Limit(kernel, dram.name))
    moved = traffic(shape, backward, ITEM_BYTES[dtype], bias)
    level = level_of(moved.held, machine)
    return _limit(shape.flops(backward), moved, machine.peak(dtype), level)


def floor(shape: Shape, backward: bool, dtype: str, machine: Machine) -> Limit:
    """Least seconds with every tensor in the fastest level: what comes in under it is no timing."""
    moved, peak = traffic(shape, backward, ITEM_BYTES[dtype]), machine.peak(dtype)
    return _limit(shape.flops(backward), moved, peak, machine.levels[0])
