"""The truth in float64, and how far from it a result in another dtype may be.

Bounds are derived, never tuned. A sum of n products in arithmetic with unit roundoff u is off by at
most gamma(n) = n u / (1 - n u) times the sum of the absolute products (Higham, Accuracy and
Stability of Numerical Algorithms, 2002, ch. 3), in any order; an activation passes an error on
multiplied by its largest slope and adds a few roundings of its own.

The truth is computed too: in float64, with errors under the same bound for u = 2^-53. They count as
much as the result's own where that is float64, so every bound is the sum of both.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from scipy import special

SQRT_2_PI = np.sqrt(2 / np.pi)
# Roundings of the activation or its derivative itself: the worst chain, gelu_tanh's derivative,
# has about a dozen operations on values of order 1 + |z|, with a tanh good to two or three units.
OWN_ROUNDINGS = 32


def sigmoid(z):
    return special.expit(z)


def cdf(z):
    return special.ndtr(z)


def pdf(z):
    return np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)


def _gelu_tanh(z):
    return 0.5 * z * (1 + np.tanh(SQRT_2_PI * (z + 0.044715 * z**3)))


def _gelu_tanh_slope(z):
    t = np.tanh(SQRT_2_PI * (z + 0.044715 * z**3))
    return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * SQRT_2_PI * (1 + 3 * 0.044715 * z * z)


@dataclasses.dataclass(frozen=True)
class Activation:
    value: object
    slope: object
    steepest: float  # max |f'|
    curved: float  # max |f''| away from kinks
    kinks: tuple = ()


ACTIVATIONS = {
    "linear": Activation(lambda z: z, np.ones_like, 1, 0),
    "relu": Activation(lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0, 1, 0, (0,)),
    "relu6": Activation(
        lambda z: np.clip(z, 0, 6), lambda z: ((z > 0) & (z < 6)) * 1.0, 1, 0, (0, 6)
    ),
    "leaky_relu": Activation(
        lambda z: np.where(z > 0, z, 0.2 * z), lambda z: np.where(z > 0, 1, 0.2), 1, 0, (0,)
    ),
    "elu": Activation(
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        lambda z: np.where(z > 0, 1, np.exp(np.minimum(z, 0))),
        1,
        1,
    ),
    "sigmoid": Activation(sigmoid, lambda z: sigmoid(z) * sigmoid(-z), 0.25, 0.1),
    "tanh": Activation(np.tanh, lambda z: 1 - np.tanh(z) ** 2, 1, 0.77),
    "silu": Activation(
        lambda z: z * sigmoid(z), lambda z: sigmoid(z) * (1 + z * sigmoid(-z)), 1.1, 0.5
    ),
    "gelu": Activation(lambda z: z * cdf(z), lambda z: cdf(z) + z * pdf(z), 1.13, 0.8),
    "gelu_tanh": Activation(_gelu_tanh, _gelu_tanh_slope, 1.13, 0.81),
}


def roundoff(dtype) -> float:
    return float(np.finfo(dtype).eps) / 2


def both_roundoffs(dtype) -> float:
    """One rounding of the result and one of the truth."""
    return roundoff(dtype) + roundoff(np.float64)


def gamma(n, dtype) -> float:
    """gamma(n) of the result plus that of the truth."""

    def one(u):
        assert n * u < 0.5, "the bound says nothing here"
        return n * u / (1 - n * u)

    return one(roundoff(dtype)) + one(roundoff(np.float64))


@dataclasses.dataclass
class Exact:
    """A value and the largest error allowed against it, element by element."""

    value: np.ndarray
    bound: np.ndarray

    def check(self, got, name="result"):
        got = np.asarray(got)
        assert got.shape == self.value.shape, f"{name}: shape {got.shape}, not {self.value.shape}"
        if got.size == 0:
            return
        assert np.isfinite(self.bound).all(), f"{name}: a bound that says nothing"
        error = np.abs(got.astype(np.float64) - self.value)
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = np.where(error == 0, 0, error / self.bound)
        worst = np.unravel_index(np.argmax(np.where(np.isnan(excess), np.inf, excess)), got.shape)
        assert excess[worst] <= 1, (
            f"{name}{list(map(int, worst))}: got {got[worst]!r}, exact {self.value[worst]!r}, "
            f"error {error[worst]:.3e} > bound {self.bound[worst]:.3e}"
        )


class Oracle:
    """Forward and backward of one shared product, in float64, with bounds for `dtype`.

    xs: arrays [..., in_features]; kernel as stored; biases: none, one or one per input, or as many
    as bias_of has indices of, one per input, -1 for none; activations: one name or one per input;
    trains_kernel: per input, whether it takes part in dkernel (none given: all do); dys: gradients
    of the outputs (backward only).
    """

    def __init__(
        self,
        xs,
        kernel,
        biases=(),
        activations=("linear",),
        transpose_kernel=False,
        bias_of=(),
        trains_kernel=(),
    ):
        kernel = np.asarray(kernel)
        self.dtype = kernel.dtype
        self.transpose = transpose_kernel
        self.w = (kernel.T if transpose_kernel else kernel).astype(np.float64)
        n = len(xs)
        self.shapes = [np.asarray(x).shape for x in xs]
        self.xs = [
            np.asarray(x, np.float64).reshape(int(np.prod(x.shape[:-1])), x.shape[-1])
            for x in map(np.asarray, xs)
        ]
        self.num_biases = len(biases)
        usual = range(n) if len(biases) > 1 else [len(biases) - 1] * n
        self.bias_of = list(bias_of) or list(usual)
        # -1 is the last.
        each = [*(np.asarray(b, np.float64) for b in biases), np.zeros(self.units)]
        self.biases = [each[j] for j in self.bias_of]
        self.trains_kernel = list(trains_kernel) or [True] * n
        names = list(activations)
        self.names = names * n if len(names) == 1 else names

    @property
    def units(self):
        return self.w.shape[1]

    def _pre(self, i):
        """z and the bound of its error: K products and a bias."""
        z = self.xs[i] @ self.w + self.biases[i]
        size = np.abs(self.xs[i]) @ np.abs(self.w) + np.abs(self.biases[i])
        return z, gamma(self.w.shape[0] + 2, self.dtype) * size

    def forward(self) -> list[Exact]:
        u = both_roundoffs(self.dtype)
        tiny = float(np.finfo(self.dtype).smallest_normal)
        results = []
        for i, name in enumerate(self.names):
            f = ACTIVATIONS[name]
            z, e = self._pre(i)
            y = f.value(z)
            own = (
                0
                if name == "linear"
                else OWN_ROUNDINGS * u * (np.abs(z) + e)  # f sees z with its error
                + OWN_ROUNDINGS * u * (np.abs(y) if name != "sigmoid" else 1)
            )
            shape = (*self.shapes[i][:-1], self.units)
            results.append(Exact(y.reshape(shape), (f.steepest * e + own + tiny).reshape(shape)))
        return results

    def _dz(self, i, dy):
        f, u = ACTIVATIONS[self.names[i]], both_roundoffs(self.dtype)
        dy = (
            np.asarray(dy, np.float64).reshape(-1, self.units)
            if self.units
            else np.zeros((len(self.xs[i]), 0))
        )
        if self.names[i] == "linear":
            return dy, np.zeros_like(dy)
        z, e = self._pre(i)
        slope_error = f.curved * e + OWN_ROUNDINGS * u * (1 + np.abs(z) + e)
        for kink in f.kinks:  # within its error, if any, z may be on either side
            slope_error = np.where((np.abs(z - kink) <= e) & (e > 0), 1.0, slope_error)
        return dy * f.slope(z), np.abs(dy) * slope_error

    def backward(self, dys) -> dict:
        """dx per input, dkernel in the kernel's layout, dbias per bias."""
        dzs, errors = zip(*(self._dz(i, dy) for i, dy in enumerate(dys)), strict=True)
        by_units = gamma(self.units + 2, self.dtype)
        tiny = float(np.finfo(self.dtype).smallest_normal)
        w = np.abs(self.w)
        dx = [
            Exact(
                (dz @ self.w.T).reshape(shape),
                ((1 + by_units) * (e @ w.T) + by_units * (np.abs(dz) @ w.T) + tiny).reshape(shape),
            )
            for dz, e, shape in zip(dzs, errors, self.shapes, strict=True)
        ]

        def row_sum(lefts, takes_part):
            """left^T . dz over the stacked rows of the inputs that take part."""
            x, dz, e = (
                np.concatenate([rows[0][:0], *itertools.compress(rows, takes_part)])
                for rows in (lefts, dzs, errors)
            )
            by_rows, size = gamma(len(x) + 2, self.dtype), np.abs(x).T
            bound = (1 + by_rows) * (size @ e) + by_rows * (size @ np.abs(dz)) + tiny
            return Exact(x.T @ dz, bound)

        dw = row_sum(self.xs, self.trains_kernel)
        if self.transpose:
            dw = Exact(dw.value.T, dw.bound.T)
        ones = [np.ones((len(x), 1)) for x in self.xs]
        db = [row_sum(ones, [j == i for j in self.bias_of]) for i in range(self.num_biases)]
        return {
            "dx": dx,
            "dkernel": dw,
            "dbias": [Exact(b.value[0], b.bound[0]) for b in db],
        }
