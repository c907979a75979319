"""Gradients of shared_matmul: against the oracle, numerically, and in every way one can ask."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from fuzz.prelude import PLAIN
from oracle import ACTIVATIONS, OWN_ROUNDINGS, Oracle, gamma, roundoff

import shared_dense as sd
from shared_dense.runtime import loader

SHAPES = [(3, 7), (1, 7), (0, 7), (2, 5, 7), (7,)]
ZERO = tf.UnconnectedGradients.ZERO


def draw(rng, *shape, dtype="float32", scale=1.0):
    return rng.uniform(-scale, scale, shape).astype(dtype)


def problem(rng, shapes=SHAPES, units=11, dtype="float32", scale=3.0):
    """Inputs, kernel, bias and gradients of the outputs."""
    xs = [draw(rng, *shape, dtype=dtype, scale=scale) for shape in shapes]
    dys = [draw(rng, *shape[:-1], units, dtype=dtype) for shape in shapes]
    kernel = draw(rng, shapes[0][-1], units, dtype=dtype)
    return xs, kernel, draw(rng, units, dtype=dtype), dys


def flat(gradients):
    """The oracle's gradients, in the order of the sources [*inputs, kernel, *biases]."""
    return [*gradients["dx"], gradients["dkernel"], *gradients["dbias"]]


def tensors(arrays):
    return [tf.convert_to_tensor(array) for array in arrays]


def differentiate(xs, kernel, biases, dys, activation=None, transpose_kernel=False):
    """Gradients in the sources [*xs, kernel, *biases]."""
    sources = tensors([*xs, kernel, *biases])
    xs, kernel, biases = sources[: len(xs)], sources[len(xs)], sources[len(xs) + 1 :]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        bias = None if not biases else biases[0] if len(biases) == 1 else biases
        outputs = sd.shared_matmul(xs, kernel, bias, activation, transpose_kernel)
    return tape.gradient(outputs, sources, output_gradients=dys)


def again(values):
    """These and the first of them, the same tensor: a tape has to tell its two places apart."""
    return [*values, values[0]]


def check(got, exact):
    for i, (gradient, wanted) in enumerate(zip(got, exact, strict=True)):
        wanted.check(gradient, f"gradient {i}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(path, run, rng, name, dtype):
    xs, kernel, bias, dys = problem(rng, dtype=dtype)

    got = run(lambda xs, w, b: differentiate(xs, w, [b], dys, name))(xs, kernel, bias)

    check(got, flat(Oracle(xs, kernel, [bias], [name]).backward(dys)))


@pytest.mark.parametrize("transpose_kernel", [False, True])
@pytest.mark.parametrize("kind", ["none", "one", "list"])
def test_every_bias(path, run, rng, kind, transpose_kernel):
    xs, kernel, bias, dys = problem(rng)
    kernel = kernel.T.copy() if transpose_kernel else kernel
    biases = {"none": [], "one": [bias], "list": [bias * i for i in range(len(xs))]}[kind]

    got = run(lambda *s: differentiate(*s, dys, "tanh", transpose_kernel))(xs, kernel, biases)

    check(got, flat(Oracle(xs, kernel, biases, ["tanh"], transpose_kernel).backward(dys)))


@pytest.mark.parametrize(
    ("shapes", "units"),
    [
        pytest.param([(0, 9)], 5, id="nothing but empty"),
        pytest.param([(1, 9)] * 40, 5, id="forty inputs of a row"),
        pytest.param([(3, 1), (1,)], 5, id="K 1"),
        pytest.param([(3, 9), (2, 9)], 1, id="U 1"),
        pytest.param([(3, 0), (0,)], 5, id="K 0"),
        pytest.param([(13, 31), (17, 31), (1, 31)], 37, id="primes"),
        pytest.param([(301, 67), (3, 67), (0, 67), (260, 67)], 83, id="several row chunks"),
        pytest.param([(5, 389), (2, 389)], 521, id="several blocks"),
    ],
)
def test_every_shape(path, rng, shapes, units):
    xs, kernel, bias, dys = problem(rng, shapes, units)
    biases = [bias] * len(xs)
    names = [["relu", "gelu"][i % 2] for i in range(len(xs))]

    got = differentiate(xs, kernel, biases, dys, names)

    check(got, flat(Oracle(xs, kernel, biases, names).backward(dys)))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_theory_agrees_with_differences(path, rng, name):
    """Central differences with step h: h^2/6 max|f'''| of truncation, and roundoff over h."""
    h, kinks = 2.0**-13, (*ACTIVATIONS[name].kinks, 0)
    z = np.zeros(1)
    while any((np.abs(z - kink) < 2 * h).any() for kink in kinks):
        xs, kernel, bias, _ = problem(rng, [(2, 3), (3,)], 2, "float64", scale=1)
        z = np.concatenate([np.atleast_2d(x) for x in xs]) @ kernel + bias

    def apply(x0, x1, kernel, bias):
        y0, y1 = sd.shared_matmul([x0, x1], kernel, bias, name)
        return tf.concat([tf.reshape(y0, [-1]), y1], 0)

    theory, numeric = tf.test.compute_gradient(apply, [*xs, kernel, bias], delta=h)

    # Inputs and weights are at most 1, and no activation's third derivative exceeds 4.
    bound = 4 * h**2 / 6 + OWN_ROUNDINGS * roundoff("float64") * np.abs(z).max() / h
    for exact, differences in zip(theory, numeric, strict=True):
        assert np.abs(exact - differences).max() <= bound


@pytest.mark.parametrize("name", ["relu", "gelu"])
@pytest.mark.parametrize("how", ["outside", "both", "graph"])
def test_every_way_to_ask(path, rng, how, name):
    xs, kernel, bias, dys = problem(rng)
    traced = tf.function(lambda *s: sd.shared_matmul(s[: len(xs)], *s[len(xs) :], name))

    def ask(*sources):
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = traced(*sources)
        return tape.gradient(outputs, sources, output_gradients=dys)

    if how == "graph":
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            sources = tensors([*xs, kernel, bias])
            outputs = sd.shared_matmul(sources[: len(xs)], *sources[len(xs) :], name)
            got = session.run(tf.gradients(outputs, sources, grad_ys=tensors(dys)))
    else:
        ask = tf.function(ask) if how == "both" else ask
        got = ask(*tensors([*xs, kernel, bias]))

    check(got, flat(Oracle(xs, kernel, [bias], [name]).backward(dys)))


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [
        pytest.param(["x0", "x2"], ([True, False, True], 0, 0), id="two inputs"),
        pytest.param(["kernel"], ([False] * 3, 1, 0), id="kernel"),
        pytest.param(["b0", "b1", "b2"], ([False] * 3, 0, 3), id="biases"),
        pytest.param(["b1"], ([False] * 3, 0, 3), id="one bias"),
        pytest.param(["x2", "kernel"], ([False, False, True], 1, 0), id="input and kernel"),
        pytest.param(["kernel", "b0"], ([False] * 3, 1, 3), id="kernel and bias"),
    ],
)
def test_only_some_sources(path, rng, monkeypatch, wanted, asked):
    xs, kernel, bias, dys = problem(rng, [(3, 7), (1, 7), (2, 2, 7)])
    names, biases = ["linear", "silu", "sigmoid"], [bias, -bias, 2 * bias]
    keys = ["x0", "x1", "x2", "kernel", "b0", "b1", "b2"]
    values = dict(zip(keys, tensors([*xs, kernel, *biases]), strict=True))
    seen = []
    if path == "op":
        ops = loader.load().ops
        grad_op = ops.shared_dense_shared_mat_mul_grad

        def spy(**arguments):
            counts = (arguments[f"num_{kind}_grads"] for kind in ("kernel", "bias"))
            seen.append((arguments["needs_input_grad"], *counts))
            return grad_op(**arguments)

        monkeypatch.setattr(ops, "shared_dense_shared_mat_mul_grad", spy)

    sources = [values[key] for key in wanted]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        v = list(values.values())
        outputs = sd.shared_matmul(v[:3], v[3], v[4:], names)
    got = tape.gradient(outputs, sources, output_gradients=dys)

    exact = dict(zip(keys, flat(Oracle(xs, kernel, biases, names).backward(dys)), strict=True))
    check(got, [exact[key] for key in wanted])
    assert seen == ([asked] if path == "op" else []), "computed what nobody asked for"


def test_outputs_that_the_loss_ignores(path, run, rng):
    xs, kernel, bias, dys = problem(rng)

    def apply(xs, w, b):
        with tf.GradientTape() as tape:
            tape.watch([*xs, w, b])
            outputs = sd.shared_matmul(xs, w, b, "gelu")
            # Rows picked from another make its gradient an IndexedSlices.
            loss = tf.reduce_sum(outputs[0] * dys[0]) + tf.reduce_sum(tf.gather(outputs[3], [1, 0]))
        # There is no gradient at all in an input that is not looked at.
        return tape.gradient(loss, [*xs, w, b], unconnected_gradients=ZERO)

    got = run(apply)(tensors(xs), tf.constant(kernel), tf.constant(bias))

    dys = [dy if i == 0 else np.full_like(dy, i == 3) for i, dy in enumerate(dys)]
    check(got, flat(Oracle(xs, kernel, [bias], ["gelu"]).backward(dys)))


def plain(xs, kernel, bias, name):
    return [PLAIN[name](tf.tensordot(x, kernel, 1) + bias) for x in xs]


def agree(got, wanted, order):
    """Float64 results of two formulas for one derivative of a small problem.

    An element is a sum of at most `terms` products: of factors below 1, of a derivative of the
    activation, below 4 up to the third, and per order of one directional derivative of z, a sum of
    2 K + 1 products. Every order makes its own roundings.
    """
    rows, depth, units = 7, 3, 2
    terms = rows * depth * units
    largest = 4 * terms * (2 * depth + 1) ** order
    bound = largest * gamma(order * (terms + OWN_ROUNDINGS), "float64")
    assert any(np.any(w) for w in wanted), "nothing to compare"
    for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
        assert a.shape == b.shape
        error = np.abs(np.subtract(a, b)).max(initial=0)
        assert error <= bound, f"derivative {i}: off by {error:.3e} > {bound:.3e}"


def small():
    # One seed for all: where no unit were alive there would be nothing to compare.
    rng = np.random.default_rng(5)
    shapes = [(2, 3), (1, 3), (0, 3), (2, 1, 3)]
    xs, kernel, bias, dys = problem(rng, shapes, 2, "float64", scale=1)
    vs = [draw(rng, *s.shape, dtype="float64") for s in (*xs, kernel, bias)]
    return tensors(xs), tf.constant(kernel), tf.constant(bias), tensors(dys), tensors(vs)


def second_order(apply, name, xs, kernel, bias, dys, vs):
    sources = [*xs, kernel, bias, *dys]
    with tf.GradientTape() as outer:
        outer.watch(sources)
        with tf.GradientTape() as inner:
            inner.watch(sources)
            outputs = apply(again(xs), kernel, bias, name)
        first = inner.gradient(outputs, sources[: len(vs)], output_gradients=again(dys))
    return first, outer.gradient(first, sources, output_gradients=vs, unconnected_gradients=ZERO)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_second_order(path, run, name):
    arguments = small()

    got = run(lambda *a: second_order(sd.shared_matmul, name, *a))(*arguments)

    wanted = second_order(plain, name, *arguments)
    agree(got[0], wanted[0], 1)
    agree(got[1], wanted[1], 2)


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_third_order(path, run, name):
    xs, kernel, bias, dys, vs = small()
    sources = [*xs, kernel, bias]

    def third_order(apply):
        with tf.GradientTape() as tape:
            tape.watch(sources)
            _, second = second_order(apply, name, xs, kernel, bias, dys, vs)
        return tape.gradient(second[: len(vs)], sources, output_gradients=vs)

    agree(run(lambda: third_order(sd.shared_matmul))(), third_order(plain), 3)


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
def test_forward_mode(path, run, name):
    xs, kernel, bias, dys, vs = small()

    def forward(apply):
        """Derivative along vs of the outputs and (forward over reverse) of the gradients."""
        sources = [*xs, kernel, bias]
        with tf.autodiff.ForwardAccumulator(sources, vs) as along, tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = apply(again(xs), kernel, bias, name)
            gradients = tape.gradient(outputs, sources, output_gradients=again(dys))
        return along.jvp(outputs), along.jvp(gradients, unconnected_gradients=ZERO)

    got, wanted = run(lambda: forward(sd.shared_matmul))(), forward(plain)

    agree(got[0], wanted[0], 1)
    agree(got[1], wanted[1], 2)


def test_hessian(path):
    xs, kernel, bias, dys, _ = small()

    def hessian(apply):
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(kernel)
            with tf.GradientTape() as inner:
                inner.watch(kernel)
                outputs = apply(again(xs), kernel, bias, "gelu")
            gradient = inner.gradient(outputs, kernel, output_gradients=again(dys))
        return outer.jacobian(gradient, kernel, experimental_use_pfor=False)

    agree([hessian(sd.shared_matmul)], [hessian(plain)], 2)
