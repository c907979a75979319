"""Calls and gradients of shared_matmul inside whatever TensorFlow may put around them.

In float64, against TensorFlow's own ops in the same context (`agree`), on both paths.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import warm
from oracle import Oracle
from test_gradients import ZERO, again, agree, check, flat, plain, problem, small, tensors

import shared_dense as sd

# Its derivative needs the pre-activation: what is kept or made again is part of every context.
NAME = "gelu"


def recomputed(f):
    return tf.recompute_grad(f)


def reversed_gradient(f):
    """tf.custom_gradient: what comes back has its sign turned, and is made by a tape inside."""

    @tf.custom_gradient
    def turned(*sources):
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = f(*sources)

        def gradient(*dys):
            found = tape.gradient(outputs, sources, output_gradients=dys)
            return [-g for g in found]

        return outputs, gradient

    return turned


def stopped(f):
    """One output and one input are constants to the tape."""

    def call(x, *others):
        first, *rest = f(tf.stop_gradient(x), *others)
        return [tf.stop_gradient(first), *rest]

    return call


def in_a_branch(f):
    def call(*sources):
        wanted = tf.reduce_sum(sources[0]) > -100
        return tf.cond(wanted, lambda: f(*sources), lambda: f(*(2 * s for s in sources)))

    return call


def in_the_branch_not_taken(f):
    def call(*sources):
        wanted = tf.reduce_sum(sources[0]) > 100
        return tf.cond(wanted, lambda: f(*sources), lambda: [y / 2 for y in f(*sources)])

    return call


def in_a_loop(f):
    """Each turn starts from the outputs of the last."""

    def call(*sources):
        def turn(i, *sums):
            scale = tf.cast(i, tf.float64) / 2
            found = f(sources[0] * scale, *sources[1:])
            return i + 1, *(s / 2 + y for s, y in zip(sums, found, strict=True))

        start = [tf.zeros_like(y) for y in f(*sources)]
        return tf.while_loop(lambda i, *_: i < 3, turn, [0, *start])[1:]

    return call


def in_python(f):
    def call(*sources):
        shapes = [y.shape for y in f(*sources)]
        found = tf.py_function(f, sources, [tf.float64] * len(shapes))
        return [tf.ensure_shape(y, shape) for y, shape in zip(found, shapes, strict=True)]

    return call


def with_rows_of_the_kernel(f):
    """As an embedding that is tied to an output does: the kernel's gradient is part slices."""

    def call(*sources):
        *others, kernel, bias = sources
        first, *rest = f(*others, kernel, bias)
        return [first + tf.gather(kernel, [1, 1]), *rest]

    return call


def with_rows_of_an_input(f):
    """As an embedding in front does: the input's gradient is slices alone."""

    def call(x, *others):
        return f(tf.gather(x, [1, 1]), *others)

    return call


CONTEXTS = [
    recomputed,
    reversed_gradient,
    stopped,
    in_a_branch,
    in_the_branch_not_taken,
    in_a_loop,
    in_python,
    with_rows_of_the_kernel,
    with_rows_of_an_input,
]


def flattened(apply):
    return lambda *sources: apply(again(sources[:-2]), *sources[-2:], NAME)


def dense_gradients(gradients):
    """Slices as tensors, and zeros for None, which the paths may have in different places."""
    return [tf.convert_to_tensor(g) for g in gradients]


@pytest.mark.parametrize("context", CONTEXTS)
def test_first_order(path, run, context):
    xs, kernel, bias, dys, _ = small()

    def outputs_and_gradients(apply, *sources):
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = context(flattened(apply))(*sources)
        found = tape.gradient(
            outputs, sources, output_gradients=again(dys), unconnected_gradients=ZERO
        )
        return outputs, dense_gradients(found)

    sources = [*xs, kernel, bias]
    got = run(lambda *s: outputs_and_gradients(sd.shared_matmul, *s))(*sources)
    wanted = outputs_and_gradients(plain, *sources)

    agree(got[0], wanted[0], 1)
    agree(got[1], wanted[1], 2)  # a loop's turns are sums of their own


@pytest.mark.parametrize("context", [in_a_branch, in_a_loop, with_rows_of_the_kernel])
def test_second_order(path, run, context):
    xs, kernel, bias, dys, vs = small()

    def second(apply, *sources):
        with tf.GradientTape() as outer:
            outer.watch(sources)
            with tf.GradientTape() as inner:
                inner.watch(sources)
                outputs = context(flattened(apply))(*sources)
            first = dense_gradients(inner.gradient(outputs, sources, output_gradients=again(dys)))
        return dense_gradients(
            outer.gradient(first, sources, output_gradients=vs, unconnected_gradients=ZERO)
        )

    sources = [*xs, kernel, bias]
    got = run(lambda *s: second(sd.shared_matmul, *s))(*sources)

    agree(got, second(plain, *sources), 3)


def test_gradients_are_asked_for_again(path, run, rng):
    """By one persistent tape: of each output alone, and of all."""
    xs, kernel, bias, dys = problem(rng)
    sources = tensors([*xs, kernel, bias])

    def ask(*sources):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(sources)
            outputs = sd.shared_matmul(sources[:-2], *sources[-2:], NAME)
        each = [
            tape.gradient(y, sources, output_gradients=dy, unconnected_gradients=ZERO)
            for y, dy in zip(outputs, dys, strict=True)
        ]
        return each, tape.gradient(outputs, sources, output_gradients=dys)

    each, of_all = run(ask)(*sources)

    for i, found in enumerate(each):
        alone = [dy * (i == j) for j, dy in enumerate(dys)]
        check(found, flat(Oracle(xs, kernel, [bias], [NAME]).backward(alone)))
    check(of_all, flat(Oracle(xs, kernel, [bias], [NAME]).backward(dys)))


def test_what_has_no_gradient_says_none(path, run):
    xs, kernel, bias, _, _ = small()
    other = tf.constant(1.0)

    def ask(x, kernel, bias):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel, bias, other])
            outputs = sd.shared_matmul([x, *xs[1:]], tf.stop_gradient(kernel), bias, NAME)
        return tape.gradient(outputs, [x, kernel, bias, other])

    found = run(ask)(xs[0], kernel, bias)

    assert [g is None for g in found] == [False, True, False, True]


def test_layer_in_forward_mode(path, run, rng):
    """Along its weights, and along them over its gradients."""
    xs, kernel, bias, dys, vs = small()
    layers = []
    for cls in (sd.SharedDense, keras.layers.Dense):
        layer = cls(2, activation="tanh", dtype="float64")
        layer.build((None, 3))
        layer.set_weights([kernel, bias])
        layers.append(layer)
    xs = [x for x in xs if x.shape.rank > 1]

    def along(layer, apply):
        weights = [w.value for w in layer.weights]
        with tf.autodiff.ForwardAccumulator(weights, vs[-2:]) as forward:
            with tf.GradientTape() as tape:
                outputs = apply(xs)
            gradients = tape.gradient(outputs, weights, output_gradients=dys)
        return forward.jvp(outputs), forward.jvp(gradients)

    shared, dense = layers
    got = run(lambda: along(shared, shared))()

    wanted = along(dense, lambda xs: [dense(x) for x in xs])
    agree(got[0], wanted[0], 1)
    agree(got[1], wanted[1], 2)


def test_in_a_dataset(path, rng):
    xs, kernel, bias, _ = problem(rng, [(6, 2, 7), (6, 7)])

    def example(a, b):
        with tf.GradientTape() as tape:
            tape.watch([a, b])
            outputs = sd.shared_matmul([a, b], kernel, bias, NAME)
        return tuple(outputs), tuple(tape.gradient(outputs, [a, b]))

    found = tf.data.Dataset.from_tensor_slices(tuple(xs)).map(example, num_parallel_calls=2)

    assert len(found) == 6
    for i, (outputs, gradients) in enumerate(found):
        exact = Oracle([x[i] for x in xs], kernel, [bias], [NAME])
        check(outputs, exact.forward())
        check(gradients, exact.backward([np.ones_like(y) for y in outputs])["dx"])


@pytest.mark.parametrize("use_resource", [False, True])
def test_variables_of_graphs(path, rng, use_resource):
    """Of TensorFlow 1: a step of its optimizer moves them as the gradients say."""
    xs, kernel, bias, dys = problem(rng)
    exact = Oracle(xs, kernel, [bias], [NAME])
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [
            tf.compat.v1.get_variable(name, initializer=value, use_resource=use_resource)
            for name, value in (("kernel", kernel), ("bias", bias))
        ]
        outputs = sd.shared_matmul(tensors(xs), *variables, NAME)
        gradients = tf.gradients(outputs, variables, grad_ys=tensors(dys))
        optimizer = tf.compat.v1.train.GradientDescentOptimizer(1.0)
        step = optimizer.apply_gradients(zip(gradients, variables, strict=True))
        session.run(tf.compat.v1.global_variables_initializer())
        found, made = session.run([outputs, gradients])
        session.run(step)
        moved = session.run(variables)

    check(found, exact.forward())
    check(made, flat(exact.backward(dys))[len(xs) :])
    for value, gradient, now in zip((kernel, bias), made, moved, strict=True):
        np.testing.assert_array_equal(now, value - gradient)


@pytest.mark.parametrize("kind", ["variable", "resource", "mixed"])
def test_variables(path, run, rng, kind):
    """Watched by the tape by themselves; in a function, too, that reads them anew."""
    xs, kernel, bias, dys = problem(rng)
    make = {
        "variable": tf.Variable,
        "resource": lambda v: tf.compat.v1.Variable(v, use_resource=True),
        "mixed": lambda v: tf.Variable(v, shape=tf.TensorShape([None] * v.ndim)),
    }[kind]
    variables = [make(kernel), make(bias)]

    @run
    def ask():
        with tf.GradientTape() as tape:
            outputs = sd.shared_matmul(xs, *variables, NAME)
        return outputs, tape.gradient(outputs, variables, output_gradients=dys)

    for scale in (1, 2):
        for variable, value in zip(variables, (kernel, bias), strict=True):
            variable.assign(scale * value)
        outputs, gradients = ask()
        exact = Oracle(xs, scale * kernel, [scale * bias], [NAME])
        check(outputs, exact.forward())
        check(gradients, flat(exact.backward(dys))[len(xs) :])


@pytest.fixture
def _numerics_checked():
    tf.debugging.enable_check_numerics()
    yield
    tf.debugging.disable_check_numerics()


@pytest.mark.usefixtures("_numerics_checked")
def test_check_numerics(path, run, rng):
    """What is finite passes; a NaN is found where it first appears, forward and backward."""
    xs, kernel, bias, dys = problem(rng)
    forward, backward = ("SharedMatMul", "SharedMatMulGrad") if path == "op" else ("MatMul", "Mul")

    @run
    def ask(x, dy):
        inputs = [x, *tensors(xs[1:])]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = sd.shared_matmul(inputs, kernel, bias, NAME)
        return outputs, tape.gradient(outputs, inputs, output_gradients=[dy, *dys[1:]])

    x, dy = tensors([xs[0], dys[0]])
    outputs, gradients = ask(x, dy)
    exact = Oracle(xs, kernel, [bias], [NAME])
    check(outputs, exact.forward())
    check(gradients, exact.backward(dys)["dx"])
    for operands, name in (
        ((xs[0] * np.nan, dys[0]), forward),
        ((xs[0], dys[0] * np.nan), backward),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f'NaN in output .* op "?.*{name}'):
            ask(*tensors(operands))


def twice():
    """Runs in a process of its own: is anything different from one call to the next?"""
    tf.keras.utils.set_random_seed(1)
    tf.config.experimental.enable_op_determinism()
    xs, kernel, bias, dys = problem(np.random.default_rng(3), [(300, 64), (290, 64)], 50)

    @tf.function
    def ask(*sources):
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = sd.shared_matmul(sources[:-2], *sources[-2:], NAME)
        return outputs, tape.gradient(outputs, sources, output_gradients=dys)

    outputs, gradients = ask(*tensors([*xs, kernel, bias]))
    exact = Oracle(xs, kernel, [bias], [NAME])
    check(outputs, exact.forward())
    check(gradients, flat(exact.backward(dys)))
    again = ask(*tensors([*xs, kernel, bias]))
    for a, b in zip(tf.nest.flatten(again), [*outputs, *gradients], strict=True):
        np.testing.assert_array_equal(a, b)
    print("checked", sd.status().last_path)


def test_op_determinism(path):
    program = """
import shared_dense as sd, test_gradient_contexts as tests
if {}:
    tests.twice()
else:
    with sd.fallback():
        tests.twice()
"""
    done = subprocess.run(
        [*warm.python(), "-c", program.format(path == "op")],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"checked {path}" in done.stdout
