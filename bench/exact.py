"""Results to compare with, much more precise than what is compared, and how far that is off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bench.shapes import Shape

SLICES = 3


class Operands(NamedTuple):
    """What a layer takes, and the gradients that flow into its outputs, as arrays or tensors."""

    xs: list
    kernel: Any
    bias: Any
    dys: list


def draw(shape: Shape, dtype: str) -> Operands:
    """Normal numbers, the same on every run; outputs are of order one, half of them positive.

    In float32, also for narrower types: the caller rounds. In float64 for float64.
    """
    rng = np.random.default_rng(0)
    drawn = np.float64 if dtype == "float64" else np.float32

    def normal(*size: int, scale: int = 1) -> np.ndarray:
        return rng.standard_normal(size, drawn) / np.sqrt(scale).astype(drawn)

    return Operands(
        [normal(rows, shape.in_features) for rows in shape.rows],
        normal(shape.in_features, shape.units, scale=shape.in_features),
        normal(shape.units),
        [normal(rows, shape.units) for rows in shape.rows],
    )


def product(a: np.ndarray, b: np.ndarray, dtype: str) -> np.ndarray:
    """a @ b of float64 matrices for results in `dtype`: in float64, or for float64 in long double.

    NumPy multiplies long double without BLAS, a hundred times slower. So for float64 each factor is
    cut into slices of so few bits that BLAS adds up their products without rounding (Ozaki, Ogita,
    Oishi and Rump, 2012, "Error-free transformations of matrix multiplication"), and only the
    sum of these products is taken in long double. Slices past the third are below its precision.
    """
    if dtype != "float64":
        return a @ b
    bits = (53 - int(np.ceil(np.log2(max(a.shape[1], 2))))) // 2
    total = np.zeros((a.shape[0], b.shape[1]), np.longdouble)
    columns = _slices(b, bits, axis=0)
    for row_part in _slices(a, bits, axis=1):
        for column_part in columns:
            total += row_part @ column_part
    return total


def _slices(values: np.ndarray, bits: int, axis: int) -> list[np.ndarray]:
    """Parts that add up to the values, each of multiples of one unit, at most 2^bits in size."""
    parts, rest = [], values
    for _ in range(SLICES):
        largest = np.abs(rest).max(axis=axis, keepdims=True)
        _, exponent = np.frexp(largest)
        unit = np.ldexp(1.0, exponent - bits)
        part = np.rint(rest / unit) * unit
        parts.append(part)
        rest = rest - part
    return parts


def layer(operands: Operands, signs: Sequence[np.ndarray] | None, dtype: str) -> list[np.ndarray]:
    """Outputs and, given where they are positive, gradients, in float64; for float64 more precise.

    Where a sum is within rounding of zero, relu may rightly have slope zero or one. `signs` says
    which was taken.
    """
    wide = np.longdouble if dtype == "float64" else np.float64
    xs, dys = ([np.asarray(x, np.float64) for x in part] for part in (operands.xs, operands.dys))
    kernel, bias = (np.asarray(x, np.float64) for x in (operands.kernel, operands.bias))
    values = [np.maximum(product(x, kernel, dtype) + bias, 0) for x in xs]
    if signs is not None:
        dzs = [dy * sign for dy, sign in zip(dys, signs, strict=True)]
        values += [product(dz, kernel.T, dtype) for dz in dzs]
        values.append(product(np.concatenate(xs).T, np.concatenate(dzs), dtype))
        values.append(np.concatenate(dzs).astype(wide).sum(axis=0))
    return values


def error(results: Sequence[np.ndarray], operands: Operands, backward: bool, dtype: str) -> float:
    """Largest error over all results, each relative to the largest value of its tensor.

    Args:
        results: outputs; with `backward`, then dX of each, dW and db.
        operands: what they were computed from, already rounded to `dtype`.
        backward: whether there are gradients.
        dtype: of limits.ITEM_BYTES.
    """
    signs = [y > 0 for y in results[: len(operands.xs)]] if backward else None
    worst = 0.0
    for got, want in zip(results, layer(operands, signs, dtype), strict=True):
        off, size = np.abs(got - want).max(), np.abs(want).max()
        worst = max(worst, off / size if off else 0.0)
    return float(worst)
