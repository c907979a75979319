"""Compiled calls on tensors of any rank with sizes that only the compiled code knows.

As a program, prints for every case that it is asked for a line of JSON: what is wrong, if anything.
Run by test_xla_dynamic_ranks.py in a process of its own, which XLA could abort.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tensorflow as tf

import shared_dense as sd
from shared_dense.runtime import paths

HALF = tf.constant([True, False, True, True, False, True])
# Of a picked width, or picked units.
FIVE = tf.constant([True, False, True, True, False])


def pick(x, mask, axis=None):
    return tf.boolean_mask(x, mask, axis=axis)


def positive(x, *axes):
    """A mask over these axes, known from the data only."""
    others = [axis for axis in range(x.shape.rank) if axis not in axes]
    return tf.reduce_sum(x, others) > 0


def two_axes(x):
    x = pick(x, positive(x, 2), axis=2)
    return pick(x, tf.reduce_sum(x, [1, 2, 3]) > -1)


def without_nan(x):
    """Rows picked beside one of NaN, which may lie in the room that XLA has for all of them."""
    first = tf.reshape(tf.range(x.shape[0]) == 0, [-1] + [1] * (x.shape.rank - 1))
    spoilt = tf.where(first, tf.constant(np.nan, x.dtype), x)
    return pick(spoilt, positive(spoilt, 0))


# Shape of x, and what is made of it: the inputs. The kernel is [5, 4].
INPUTS = {
    "rank 2": ([6, 5], lambda x: [pick(x, positive(x, 0)), x]),
    "rank 3": ([6, 3, 5], lambda x: [pick(x, positive(x, 0)), x]),
    "rank 4": ([6, 2, 3, 5], lambda x: [pick(x, HALF)]),
    "rank 4, beside static": ([6, 2, 3, 5], lambda x: [x, pick(x, positive(x, 0)), x[0], x]),
    "rank 5": ([6, 2, 3, 2, 5], lambda x: [pick(x, positive(x, 0))]),
    "an inner axis": ([6, 2, 3, 5], lambda x: [pick(x, positive(x, 2), axis=2), x]),
    "a mask of two axes": ([6, 2, 3, 5], lambda x: [pick(x, positive(x, 0, 1))]),
    "a mask of two inner axes": ([6, 2, 3, 5], lambda x: [pick(x, positive(x, 1, 2), axis=1)]),
    "two dynamic axes": ([6, 2, 3, 5], lambda x: [two_axes(x)]),
    "two dynamic axes, beside one": ([6, 2, 3, 5], lambda x: [two_axes(x), x, pick(x, HALF)]),
    "all inputs": (
        [6, 3, 5],
        lambda x: [
            pick(x, positive(x, 0)),
            pick(x, positive(-x, 0)),
            pick(x, positive(x, 1), axis=1),
        ],
    ),
    "picked by where": (
        [6, 3, 5],
        lambda x: [
            tf.gather_nd(1.0 * x, tf.where(positive(x, 0))),
            tf.gather_nd(1.0 * x, tf.where(x < 0)[:, :1]),
        ],
    ),
    "nothing picked": ([6, 2, 3, 5], lambda x: [pick(x, x[:, 0, 0, 0] > 9), x]),
    "nothing picked at all": ([6, 3, 5], lambda x: [pick(x, x[:, 0, 0] > 9)]),
    "NaN in what is not picked": ([6, 3, 5], lambda x: [without_nan(x), x]),
}  # fmt: skip


def of_kernel(name, x, kernel, bias):
    """Inputs, kernel and bias of a case."""
    if name == "a picked width":
        return [pick(x, FIVE, axis=2), pick(x[0], FIVE, axis=1)], pick(kernel, FIVE), bias
    if name == "picked units":
        units = bias > 0
        return [x, pick(x, positive(x, 0))], pick(kernel, units, axis=1), pick(bias, units)
    return INPUTS[name][1](x), kernel, bias


KERNELS = {"a picked width": [6, 3, 5], "picked units": [6, 3, 5]}
NAMES = [*INPUTS, *KERNELS]
# Of products of XLA's own, which read the same tensors: one of each kind.
DOT = ["rank 4, beside static", "two dynamic axes, beside one", "nothing picked", *KERNELS]
# Whose second derivatives are compared, too.
SECOND = ["rank 3", "a mask of two axes", "two dynamic axes", "picked units"]


def ours(xs, kernel, bias):
    return sd.shared_matmul(xs, kernel, bias, "silu")


def theirs(xs, kernel, bias):
    return [tf.nn.silu(tf.tensordot(x, kernel, 1) + bias) for x in xs]


def results(product, name, sources, last, second):
    """Outputs, what later ops make of them, a second call on them, and gradients of it all."""
    with tf.GradientTape() as outer:
        outer.watch(sources)
        with tf.GradientTape() as tape:
            tape.watch(sources)
            xs, kernel, bias = of_kernel(name, *sources)
            ys = product(xs, kernel, bias)
            # The last kernel fits what was picked of the units.
            fits = tf.boolean_mask(last, sources[2] > 0) if name == "picked units" else last
            zs = product(ys, fits, tf.zeros([3], last.dtype))
            loss = tf.add_n([tf.reduce_sum(z * z) for z in [*ys, *zs]])
        first = tape.gradient(loss, sources)
        squares = tf.add_n([tf.reduce_sum(g * g) for g in first])
    later = [f(y) for y in ys for f in (tf.shape, tf.nn.softmax, tf.transpose)]
    later += [tf.reduce_mean(y, -1) for y in ys]
    return [*ys, *zs, *later, *first, *(outer.gradient(squares, sources) if second else [])]


def check(name):
    """Nothing, or what is wrong with which result."""
    rng = np.random.default_rng(len(name))
    shape = INPUTS[name][0] if name in INPUTS else KERNELS[name]
    sources = [tf.constant(rng.uniform(-2, 2, s)) for s in (shape, [5, 4])]
    sources.append(tf.constant([1.5, -1.0, 0.5, 2.0], tf.float64))
    last = tf.constant(rng.uniform(-1, 1, [4, 3]))
    second = name in SECOND

    def both(*sources):
        return [results(product, name, sources, last, second) for product in (ours, theirs)]

    wanted = results(theirs, name, sources, last, second)
    found = tf.function(both, jit_compile=True, autograph=False)(*sources)
    assert paths.last() == ("op", "float64 on CPU, compiled by XLA"), paths.last()
    wrong = []
    for who, got in zip(("ours", "tensordot"), found, strict=True):
        for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
            if a.shape != b.shape:
                wrong.append(f"{who}: result {i} has shape {a.shape}, wanted {b.shape}")
            elif not np.allclose(a, b, 1e-11, 1e-11 * np.abs(b).max(initial=1)):
                wrong.append(f"{who}: result {i} is {np.asarray(a)}, wanted {np.asarray(b)}"[:500])
    return wrong


def main():
    for name in json.loads(sys.stdin.read()):
        try:
            wrong = check(name)
        except Exception as error:  # whatever it is, it is this case's
            wrong = [f"{type(error).__name__}: {str(error)[:300]}"]
        print(json.dumps({"name": name, "wrong": wrong}), flush=True)


if __name__ == "__main__":
    main()
