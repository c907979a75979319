"""Wrong products, to see that the harness can fail."""

from __future__ import annotations

import os

import tensorflow as tf

import shared_dense as sd
from fuzz import compare
from shared_dense.ops import matmul

_right = matmul.shared_matmul


@tf.custom_gradient
def _twice_in_first_order(x):
    return tf.identity(x), lambda dy: 2 * dy


@tf.custom_gradient
def _twice_in_second_order(x):
    @tf.custom_gradient
    def gradient(dy):
        return tf.identity(dy), lambda ddy: 2 * ddy

    return tf.identity(x), gradient


@tf.custom_gradient
def _swapped(x, y):
    return (tf.identity(x), tf.identity(y)), lambda dx, dy: (dy, dx)


def _drops_a_bias(inputs, kernel, bias=None, *args, **kwargs):
    n = len(inputs)
    each = list(bias) if isinstance(bias, (list, tuple)) else [bias] * n
    return _right(inputs, kernel, [*each[:-1], None], *args, **kwargs)


def _doubles_kernel_gradient(inputs, kernel, *args, **kwargs):
    return _right(inputs, _twice_in_first_order(tf.convert_to_tensor(kernel)), *args, **kwargs)


def _swaps_input_gradients(inputs, *args, **kwargs):
    inputs = list(inputs)
    for i, x in enumerate(inputs[:-1]):
        y = inputs[i + 1]
        if x is not y and x.shape.is_fully_defined() and x.shape == y.shape:
            inputs[i], inputs[i + 1] = _swapped(x, y)
            break
    return _right(inputs, *args, **kwargs)


def _totals_in_every_slot(inputs, *args, **kwargs):
    """Of a tensor that fills several slots each gets what all should have, in second order."""
    repeated = [sum(x is y for y in inputs) > 1 for x in inputs]
    changed = [_twice_in_second_order(x) if r else x for x, r in zip(inputs, repeated, strict=True)]
    return _right(changed, *args, **kwargs)


def _wrong_outputs(inputs, *args, **kwargs):
    first, *rest = _right(inputs, *args, **kwargs)
    return [first * 1.5, *rest]


def _second_order(inputs, kernel, *args, **kwargs):
    return _right(inputs, _twice_in_second_order(tf.convert_to_tensor(kernel)), *args, **kwargs)


def _dies(*args, **kwargs):
    os.abort()


def _zeros_for_none(inputs, *args, **kwargs):
    """Every input has a gradient, if one of zeros, whichever output is looked at."""
    outputs = _right(inputs, *args, **kwargs)
    nothing = tf.add_n([tf.reduce_sum(0 * x) for x in inputs])
    return [y + nothing for y in outputs]


FAULTS = {
    "outputs": _wrong_outputs,
    "dropped bias": _drops_a_bias,
    "doubled kernel gradient": _doubles_kernel_gradient,
    "swapped input gradients": _swaps_input_gradients,
    "totals in every slot": _totals_in_every_slot,
    "second order": _second_order,
}
# Not wrong in their numbers.
OTHERS = {
    "death": _dies,
    "death of all": _dies,
    "zeros for None": _zeros_for_none,
}


def inject(name):
    """Puts a wrong product where programs and layers find it."""
    sd.shared_matmul = matmul.shared_matmul = {**FAULTS, **OTHERS}[name]
    if name == "death of all":
        compare.plain = _dies
