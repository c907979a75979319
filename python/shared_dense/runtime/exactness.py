"""Made-up calls, their results in float64, and how far from those another result may be.

For the checks that run on a user's machine. A sum of n products with unit roundoff u is off by at
most n u / (1 - n u) times the sum of the absolute products, in any order (Higham, Accuracy and
Stability of Numerical Algorithms, 2002, ch. 3); what is stored is rounded once more, and so are the
factors where they are multiplied in TensorFloat-32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Unit roundoff of what is stored, and the smallest normal number.
_STORED = {
    tf.float32: (2.0**-24, 2.0**-126),
    tf.float64: (2.0**-53, 2.0**-1022),
    tf.bfloat16: (2.0**-8, 2.0**-126),
    tf.float16: (2.0**-11, 2.0**-14),
}
# Of a sum in float32, twice the roundoff: tensor cores cut sums off where they do not round them.
_FLOAT32_SUM_ROUNDOFF = 2.0**-23
TF32_ROUNDOFF = 2.0**-11
# Of tanh, or of its derivative.
_OWN_ROUNDINGS = 32


class Exact(NamedTuple):
    """Values in float64 and the largest error allowed of each."""

    value: np.ndarray
    bound: np.ndarray

    def excess(self, got: tf.Tensor) -> float:
        """The largest error as a part of its bound; infinite where a value is NaN."""
        error = np.abs(got.numpy().astype(np.float64) - self.value)
        parts = np.where(np.isnan(error), np.inf, error) / self.bound
        return float(parts.max(initial=0))


@dataclasses.dataclass(frozen=True)
class Problem:
    """One kernel, inputs of these rows, tanh and linear in turns, one bias: made-up numbers."""

    rows: tuple[int, ...]
    in_features: int
    units: int
    dtype: tf.DType = tf.float32
    transpose_kernel: bool = False

    @property
    def name(self) -> str:
        """'float32, rows 5+0+33, 37 -> 29'."""
        rows = "+".join(map(str, self.rows)) if len(self.rows) < 8 else f"{len(self.rows)} inputs"
        turned = ", transposed" if self.transpose_kernel else ""
        return f"{self.dtype.name}, rows {rows}, {self.in_features} -> {self.units}{turned}"

    @property
    def activations(self) -> list[str]:
        """A name per input."""
        return [("tanh", "linear")[i % 2] for i in range(len(self.rows))]

    def operands(self) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Inputs, kernel, bias and gradients of the outputs: the same at every call."""
        rng = np.random.default_rng([*self.rows, self.in_features, self.units])

        def normal(*shape: int, scale: float = 1) -> tf.Tensor:
            return tf.constant(scale * rng.standard_normal(shape), self.dtype)

        shape = (self.in_features, self.units)
        kernel = normal(
            *(shape[::-1] if self.transpose_kernel else shape), scale=self.in_features**-0.5
        )
        inputs = [normal(n, self.in_features) for n in self.rows]
        return inputs, kernel, normal(self.units), [normal(n, self.units) for n in self.rows]

    def exact(self, tf32: bool = False) -> dict[str, Exact]:
        """Every result by name: 'output 0', 'input gradient 0', 'kernel gradient', ..."""
        with tf.device("CPU:0"):
            operands = self.operands()
        xs, kernel, bias, dys = tf.nest.map_structure(
            lambda t: t.numpy().astype(np.float64), operands
        )
        w = kernel.T if self.transpose_kernel else kernel
        rounding = _Rounding(self.dtype, TF32_ROUNDOFF if tf32 else 0.0)
        found, dzs = {}, []
        for i, (x, dy, name) in enumerate(zip(xs, dys, self.activations, strict=True)):
            z = rounding.product(x, Exact(w, np.zeros_like(w)), bias)
            y = z.value if name == "linear" else np.tanh(z.value)
            own = 0 if name == "linear" else rounding.own(1 + np.abs(z.value))
            found[f"output {i}"] = kept = rounding.stored(Exact(y, z.bound + own))
            if name == "linear":
                dzs.append(Exact(dy, np.zeros_like(dy)))
            else:
                # f' = 1 - y^2 is made of the y that was stored.
                slope, off = 1 - y * y, (2 + kept.bound) * kept.bound + rounding.own(1)
                dzs.append(rounding.stored(Exact(dy * slope, np.abs(dy) * off)))
            back = rounding.product(w, Exact(dzs[i].value.T, dzs[i].bound.T))
            found[f"input gradient {i}"] = rounding.stored(Exact(back.value.T, back.bound.T))
        dz = Exact(*(np.concatenate(parts) for parts in zip(*dzs, strict=True)))
        dw = rounding.stored(rounding.product(np.concatenate(xs).T, dz))
        ones = np.ones((1, len(dz.value)))
        db = rounding.stored(rounding.product(ones, dz, rounded=False))
        turned = [part.T for part in dw] if self.transpose_kernel else dw
        return found | {
            "kernel gradient": Exact(*turned),
            "bias gradient": Exact(*(p[0] for p in db)),
        }

    def results(self, call: Callable[..., Sequence[tf.Tensor]]) -> dict[str, tf.Tensor]:
        """The same by `call(inputs, kernel, bias, activations, transpose_kernel)`."""
        inputs, kernel, bias, dys = self.operands()
        with tf.GradientTape() as tape:
            tape.watch([inputs, kernel, bias])
            outputs = call(inputs, kernel, bias, self.activations, self.transpose_kernel)
        sources = [*inputs, kernel, bias]
        *dxs, dw, db = tape.gradient(outputs, sources, output_gradients=dys)
        found = {f"output {i}": y for i, y in enumerate(outputs)}
        found |= {f"input gradient {i}": dx for i, dx in enumerate(dxs)}
        return found | {"kernel gradient": dw, "bias gradient": db}

    def excesses(
        self, call: Callable[..., Sequence[tf.Tensor]], tf32: bool = False
    ) -> dict[str, float]:
        """Errors of the results of `call` as parts of their bounds: right where none is over 1."""
        exact, results = self.exact(tf32), self.results(call)
        return {name: exact[name].excess(got) for name, got in results.items()}


class _Rounding:
    """How much arithmetic in a dtype may be off."""

    def __init__(self, dtype: tf.DType, factor: float):
        self._unit, self._tiny = _STORED[dtype]
        # One rounding of the value and one of the truth.
        own = self._unit if dtype == tf.float64 else _FLOAT32_SUM_ROUNDOFF
        self._sum = own + 2.0**-53
        self._factors = factor * (2 + factor)

    def product(
        self, a: np.ndarray, b: Exact, bias: np.ndarray | None = None, rounded: bool = True
    ) -> Exact:
        """`a @ b + bias` before it is stored; `rounded`: the factors are, where they may be."""
        added = 0 if bias is None else bias
        size = np.abs(a) @ (np.abs(b.value) + b.bound)
        off = np.abs(a) @ b.bound + (self._factors * size if rounded else 0)
        n = (a.shape[1] + 2) * self._sum
        gamma = n / (1 - n)
        return Exact(a @ b.value + added, gamma * (size + off + np.abs(added)) + off)

    def own(self, size: np.ndarray | float) -> np.ndarray | float:
        return _OWN_ROUNDINGS * self._sum * size

    def stored(self, exact: Exact) -> Exact:
        rounded = (self._unit + 2.0**-53) * (np.abs(exact.value) + exact.bound)
        return Exact(exact.value, exact.bound + rounded + self._tiny)
