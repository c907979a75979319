"""Who takes part: the same layers, computed in several ways, and how far from float64 each is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

import shared_dense as sd
from bench import exact
from bench.exact import Operands
from bench.shapes import Shape

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


def keras_dense(operands: Operands) -> list:
    """What users write: a Dense called per input, here with the kernel and bias that are given."""
    in_features, units = operands.kernel.shape
    dense = _dense(in_features, units, operands.kernel.dtype.name)
    weights = [operands.kernel, operands.bias]
    return [dense.stateless_call(weights, [], x)[0] for x in operands.xs]


@functools.cache
def _dense(in_features: int, units: int, dtype: str) -> keras.layers.Dense:
    with tf.init_scope():  # called while a function is traced, which its variables must outlive
        dense = keras.layers.Dense(
            units, activation="relu", dtype=dtype, kernel_initializer="zeros"
        )
        dense.build((None, in_features))
    return dense


def concat(operands: Operands) -> list:
    """One matmul of all rows, between a copy of every input and a copy of every output."""
    joined = operands._replace(xs=[tf.concat(operands.xs, axis=0)])
    return tf.split(plain(joined)[0], [x.shape[0] for x in operands.xs])


def stack(operands: Operands) -> list:
    """A batched matmul, between a copy of every input and a copy of every output; equal rows."""
    products = tf.matmul(tf.stack(operands.xs), operands.kernel)
    return tf.unstack(tf.nn.relu(tf.nn.bias_add(products, operands.bias)))


FORWARD: dict[str, Layer] = {
    "op": op,
    "plain": plain,
    "keras": keras_dense,
    "concat": concat,
    "stack": stack,
}


def skipped(shape: Shape) -> dict[str, str]:
    """Those that cannot compute the shape, and why."""
    return {} if len(set(shape.rows)) == 1 else {"stack": "inputs differ in rows"}


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
    """By name; xla is plain reuse, compiled as a whole. With `jit` all are compiled."""
    wrap = with_backward if backward else lambda forward: forward
    layers = {name: wrap(forward) for name, forward in FORWARD.items()}
    compiled = functools.partial(tf.function, jit_compile=True, autograph=False)
    if jit:
        return {name: compiled(layer) for name, layer in layers.items()}
    return layers | {"xla": compiled(layers["plain"])}


def from_python(operands: Operands, backward: bool) -> dict[str, Layer]:
    """Those called from Python: the op, and layers as users have them, with variables of their own:
    a Dense called per input (keras), and SharedDense (layer).
    """
    in_features, units = operands.kernel.shape
    settings = {"units": units, "activation": "relu", "dtype": operands.kernel.dtype.name}
    dense, shared = keras.layers.Dense(**settings), sd.SharedDense(**settings)
    for made in (dense, shared):
        made.build((None, in_features))
        made.set_weights([operands.kernel, operands.bias])

    def of_variables(made: keras.layers.Layer, call: Layer) -> Layer:
        def layer(given: Operands) -> list:
            sources = [*given.xs, *(weight.value for weight in made.weights)]
            with tf.GradientTape() as tape:
                tape.watch(given.xs)
                ys = call(given)
            return [*ys, *tape.gradient(ys, sources, output_gradients=given.dys)]

        return layer if backward else call

    return {
        "op": with_backward(op) if backward else op,
        "keras": of_variables(dense, lambda given: [dense(x) for x in given.xs]),
        "layer": of_variables(shared, lambda given: list(shared(given.xs))),
    }


def make_operands(shape: Shape, dtype: str = "float32") -> Operands:
    """The numbers that exact.draw draws, as tensors."""
    return tf.nest.map_structure(lambda x: tf.cast(x, dtype), exact.draw(shape, dtype))


def error(results: Sequence[tf.Tensor], operands: Operands, backward: bool) -> float:
    """Largest error over all results of a layer, each relative to the largest of its tensor."""
    drawn = tf.nest.map_structure(np.asarray, operands)
    dtype = operands.kernel.dtype.name
    return exact.error([np.asarray(y) for y in results], drawn, backward, dtype)
