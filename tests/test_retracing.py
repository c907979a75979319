"""How often a function is traced while rows change, and whether calls leave memory behind."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from oracle import Exact, Oracle, both_roundoffs

import shared_dense as sd

K, U = 4, 8
ROWS = (3, 1, 7, 2, 16, 5, 11, 4, 0, 9)
PAIR = [[tf.TensorSpec([None, K], tf.float32)] * 2]


class CountedShared(sd.SharedDense):
    """Counts the times that Python runs it, which in a graph are the times it is traced."""

    calls = 0

    def call(self, inputs, training=None):
        self.calls += 1
        return super().call(inputs, training=training)


class CountedDense(keras.layers.Dense):
    calls = 0

    def call(self, inputs, training=None):
        self.calls += 1
        return super().call(inputs, training=training)


def built(kind):
    layer = kind(U, activation="tanh", bias_initializer="ones")
    layer.build((None, K))
    return layer


def of(layer, xs):
    """SharedDense on a list; Dense input by input."""
    return layer(xs) if isinstance(layer, sd.SharedDense) else [layer(x) for x in xs]


def exact_of(layer, xs):
    return Oracle(xs, layer.kernel.numpy(), [layer.bias.numpy()], ["tanh"]).forward()


def pairs(rng):
    """Two inputs, whose rows change from call to call, each by itself."""
    for a, b in zip(ROWS, reversed(ROWS), strict=True):
        yield [rng.standard_normal((rows, K)).astype("float32") for rows in (a, b)]


def traces_of(kind, rng, **options):
    layer = built(kind)
    function = tf.function(lambda xs: of(layer, xs), autograph=False, **options)
    for xs in pairs(rng):
        outputs = function([tf.constant(x) for x in xs])
        for y, exact in zip(outputs, exact_of(layer, xs), strict=True):
            exact.check(y)
    return function.experimental_get_tracing_count()


def test_one_trace_for_all_rows_with_an_input_signature(path, rng):
    assert traces_of(CountedShared, rng, input_signature=PAIR) == 1


def test_reduce_retracing_generalises_as_for_dense(path, rng):
    """The second shape shows TensorFlow which axes change; some of its rows are still unknown."""
    traces = traces_of(CountedShared, rng, reduce_retracing=True)
    assert traces == traces_of(CountedDense, rng, reduce_retracing=True) <= 3


def test_without_either_every_shape_is_traced_as_for_dense(path, rng):
    assert traces_of(CountedShared, rng) == traces_of(CountedDense, rng) == len(ROWS)


def test_one_program_traced_and_several_compiled(path, rng):
    """XLA compiles a program per shape, without tracing Python again."""
    assert traces_of(CountedShared, rng, input_signature=PAIR, jit_compile=True) == 1


def calls_of_keras(kind, rng):
    """How often Keras runs the layer in fit, in evaluate and in predict of batches of any size."""
    layer = built(kind)
    inputs = [keras.Input((K,)) for _ in range(2)]
    model = keras.Model(inputs, keras.layers.subtract(of(layer, inputs)))
    model.compile("sgd", "mse")
    counts = []
    for run in (model.fit, model.evaluate, model.predict):
        before = layer.calls
        for rows in (rows for rows in ROWS if rows):
            xs = [rng.standard_normal((rows, K)).astype("float32") for _ in range(2)]
            y = [] if run == model.predict else [np.ones((rows, U), "float32")]
            predicted = run(xs, *y, batch_size=rows, verbose=0)
            if run == model.predict:
                a, b = exact_of(layer, xs)
                rounding = both_roundoffs("float32") * 2  # of a difference of two values within 1
                Exact(a.value - b.value, a.bound + b.bound + rounding).check(predicted)
        counts.append(layer.calls - before)
    return counts


def test_keras_does_not_trace_every_batch_size(path, rng):
    shared, dense = calls_of_keras(CountedShared, rng), calls_of_keras(CountedDense, rng)
    # Dense is called for each of the two inputs.
    assert all(0 < 2 * a <= b for a, b in zip(shared, dense, strict=True)), (shared, dense)
    assert max(shared) <= 3


CALLS, WARM_UP = 10_000, 500
LEAK_ROWS, LEAK_UNITS = 16, 512  # an output of 32 KB, by few operations


def resident():
    """Bytes of this process in memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def train_step(layer):
    optimizer = keras.optimizers.SGD(1e-6)
    optimizer.build(layer.trainable_variables)

    @tf.function(autograph=False)
    def step(xs):
        with tf.GradientTape() as tape:
            outputs = layer(xs)
            loss = tf.add_n([tf.reduce_sum(y) for y in outputs])
        optimizer.apply(tape.gradient(loss, layer.trainable_variables))
        return outputs

    return step


def taped(layer):
    def call(xs):
        with tf.GradientTape() as tape:
            outputs = layer(xs)
        return tape.gradient(outputs, layer.trainable_variables)

    return call


WAYS = {
    "eager": lambda layer: layer,
    "eager gradients": taped,
    "graph": lambda layer: tf.function(layer, autograph=False),
    "XLA": lambda layer: tf.function(layer, autograph=False, jit_compile=True),
    "training": train_step,
}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.parametrize("way", WAYS)
def test_ten_thousand_calls_leave_nothing_behind(way):
    """On the op: what TensorFlow's own ops leave is not ours to test.

    One 32 KB output kept per call would be 328 MB in the end, the kernel's gradient 82 MB; a tenth
    of the former is allowed, for what allocators do.
    """
    layer = sd.SharedDense(LEAK_UNITS, activation="relu")
    layer.build((None, K))
    xs = [tf.ones([LEAK_ROWS, K]), tf.ones([1, K])]
    call = WAYS[way](layer)
    for _ in range(WARM_UP):
        call(xs)
    assert sd.status().last_path == "op"
    before = resident()
    for _ in range(CALLS):
        call(xs)
    grown = resident() - before
    output = LEAK_ROWS * LEAK_UNITS * 4
    assert grown < CALLS * output / 10, f"{grown / CALLS:.0f} bytes a call"
