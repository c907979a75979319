"""FLOPs as TensorFlow's profiler counts them: those of a Dense per input, forward and backward."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf
from oracle import ACTIVATIONS

import shared_dense as sd
from shared_dense.ops import composition

SHAPES = {"two": [(8, 64), (8, 64)], "ragged": [(8, 64), (3, 5, 64), (1, 64)], "one": [(8, 64)]}


def flops(function, *arguments):
    graph = tf.function(function).get_concrete_function(*arguments).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation() | {"output": "none"}
    return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops


def step(layer):
    """Forward and backward; a Dense is called once for each input."""

    def run(*xs):
        weights = [v.value for v in layer.trainable_variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([xs, weights])
            fused = isinstance(layer, (sd.SharedDense, sd.TransposedDense))
            ys = layer(list(xs)) if fused else [layer(x) for x in xs]
        return tape.gradient(ys, [*xs, *weights])

    return run


def layers(**arguments):
    ours, dense = sd.SharedDense(32, **arguments), keras.layers.Dense(32, **arguments)
    for layer in (ours, dense):
        layer.build((None, 64))
    return ours, dense


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(path, name, shapes):
    activation = name if hasattr(keras.activations, name) else composition.ACTIVATIONS[name]
    ours, dense = layers(activation=activation)
    xs = [tf.ones(shape) for shape in SHAPES[shapes]]

    forward = flops(lambda *xs: ours(list(xs)), *xs)

    assert forward == flops(lambda *xs: [dense(x) for x in xs], *xs) > 2 * 8 * 64 * 32
    assert flops(step(ours), *xs) == flops(step(dense), *xs) > 2 * forward


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("is_frozen", [True, False])
def test_only_what_is_asked(path, use_bias, is_frozen):
    ours, dense = layers(use_bias=use_bias, trainable=not is_frozen)
    xs = [tf.ones(shape) for shape in SHAPES["ragged"]]
    assert flops(step(ours), *xs) == flops(step(dense), *xs) > 0


def test_per_input_and_transposed(path):
    xs = [tf.ones((8, 32)), tf.ones((8, 32))]
    kernel, bias = tf.ones([64, 32]), tf.ones([64])

    def of(product):
        def run(a, b, kernel, bias):
            with tf.GradientTape() as tape:
                tape.watch([kernel, bias])
                ys = product(a, b, kernel, bias)
            return tape.gradient(ys, [kernel, bias])

        return flops(run, *xs, kernel, bias)

    def shared(a, b, kernel, bias):
        return sd.shared_matmul([a, b], kernel, [bias, None], None, True, [True, False])

    def plain(a, b, kernel, bias):
        constant = tf.stop_gradient(kernel)
        return tf.matmul(a, kernel, transpose_b=True) + bias, tf.matmul(
            b, constant, transpose_b=True
        )

    assert of(shared) == of(plain) > 3 * 2 * 8 * 64 * 32


def test_unknown_sizes_count_nothing(path):
    """As of TensorFlow's own products; the profiler neither fails nor guesses."""
    ours, dense = layers()
    spec = [tf.TensorSpec((None, 64))] * 2
    assert flops(step(ours), *spec) == flops(step(dense), *spec)


def test_the_profiler_is_told_once(path, monkeypatch):
    """A module that is imported again registers nothing new, and fails at nothing."""
    import importlib

    from shared_dense.ops import flops as module

    ours, dense = layers()
    x = tf.ones((8, 64))
    before = flops(step(ours), x)
    importlib.reload(module)
    assert flops(step(ours), x) == before == flops(step(dense), x)
