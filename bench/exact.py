"""Products to compare with, much more precise than what is compared."""

from __future__ import annotations

import numpy as np

SLICES = 3


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
