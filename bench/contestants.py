"""Who takes part: the same layers, computed in several ways, and how far from float64 each is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import shared_dense as sd
from bench.exact import product
from bench.shapes import Shape


class Operands(NamedTuple):
    """What a layer takes, and the gradients that flow into its outputs."""

    xs: list
    kernel: tf.Tensor
    bias: tf.Tensor
    dys: list


Layer = Callable[[Operands], list]  # outputs; with backward, then dX of each, dW and db


def op(operands: Operands) -> list:
    """One call of the fused op."""
    return sd.shared_matmul(operands.xs, operands.kernel, operands.bias, "relu")


def plain(operands: Operands) -> list:
    """Plain reuse: a matmul per input, which TensorFlow fuses with its bias and relu."""
    return [
        tf.nn.relu(tf.nn.bias_add(tf.matmul(x, operands.kernel), operands.bias))
        for x in operands.xs
    ]


def concat(operands: Operands) -> list:
    """One matmul of all rows, between a copy of every input and a copy of every output."""
    joined = operands._replace(xs=[tf.concat(operands.xs, axis=0)])
    return tf.split(plain(joined)[0], [x.shape[0] for x in operands.xs])


def with_backward(forward: Layer) -> Layer:
    """The layer, followed by the gradients of all inputs, of the kernel and of the bias."""

    def layer(operands: Operands) -> list:
        sources = [*operands.xs, operands.kernel, operands.bias]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            ys = forward(operands)
        return [*ys, *tape.gradient(ys, sources, output_gradients=operands.dys)]

    return layer


def contestants(backward: bool, jit: bool = False) -> dict[str, Layer]:
    """By name; XLA is plain reuse, compiled as a whole. With `jit` all are compiled."""
    wrap = with_backward if backward else lambda forward: forward
    layers = {"op": wrap(op), "plain": wrap(plain), "concat": wrap(concat)}
    if jit:
        return {name: _compiled(layer) for name, layer in layers.items()}
    return layers | {"xla": _compiled(layers["plain"])}


def _compiled(layer: Layer) -> Layer:
    return tf.function(layer, jit_compile=True, autograph=False)


def make_operands(shape: Shape, dtype: str = "float32") -> Operands:
    """Normal numbers, the same on every run; outputs are of order one, half of them positive."""
    rng = np.random.default_rng(0)
    drawn = np.float64 if dtype == "float64" else np.float32

    def normal(*size: int, scale: int = 1) -> tf.Tensor:
        values = rng.standard_normal(size, drawn) / np.sqrt(scale).astype(drawn)
        return tf.cast(tf.constant(values), dtype)

    return Operands(
        [normal(rows, shape.in_features) for rows in shape.rows],
        normal(shape.in_features, shape.units, scale=shape.in_features),
        normal(shape.units),
        [normal(rows, shape.units) for rows in shape.rows],
    )


def exact(operands: Operands, signs: Sequence[np.ndarray] | None) -> list[np.ndarray]:
    """Outputs and, given where they are positive, gradients, in float64; for float64 more precise.

    Where a sum is within rounding of zero, relu may rightly have slope zero or one. `signs` says
    which was taken.
    """
    dtype = operands.kernel.dtype.name
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


def error(layer: Layer, operands: Operands, backward: bool) -> float:
    """Largest error over all results, each relative to the largest value of its tensor."""
    results = [np.asarray(y) for y in tf.function(layer, autograph=False)(operands)]
    signs = [y > 0 for y in results[: len(operands.xs)]] if backward else None
    worst = 0.0
    for got, want in zip(results, exact(operands, signs), strict=True):
        off, size = np.abs(got - want).max(), np.abs(want).max()
        worst = max(worst, off / size if off else 0.0)
    return float(worst)
