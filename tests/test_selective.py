"""shared_matmul where inputs choose: which bias each uses, and whether it trains the kernel."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from oracle import Oracle
from test_gradient_bits import same_bits
from test_gradients import PLAIN, ZERO, agree, check, flat, problem, small, tensors

import shared_dense as sd
from shared_dense.runtime import loader

SHAPES = [(3, 7), (1, 7), (0, 7), (2, 5, 7), (7,), (4, 7)]
NAMES = ["gelu", "linear", "tanh", "relu", "linear", "silu"]
BIAS_OF = [1, -1, 0, 1, -1, 0]
TRAINS = [True, False, True, True, False, True]


def chosen(biases, bias_of):
    return [None if i < 0 else biases[i] for i in bias_of]


@pytest.fixture
def calls(path, monkeypatch):
    """The arguments of every call of the gradient op."""
    seen = []
    if path == "op":
        ops = loader.load().ops
        grad_op = ops.shared_dense_shared_mat_mul_grad
        monkeypatch.setattr(
            ops,
            "shared_dense_shared_mat_mul_grad",
            lambda **arguments: seen.append(arguments) or grad_op(**arguments),
        )
    return seen


@pytest.mark.parametrize("transpose_kernel", [False, True])
@pytest.mark.parametrize("trained", ["eager", "inside", "outside"])
def test_values(path, rng, trained, transpose_kernel):
    """Eager, traced with its tape, and traced without: what is not kept is made again."""
    xs, kernel, bias, dys = problem(rng, SHAPES)
    kernel = kernel.T.copy() if transpose_kernel else kernel
    biases = [bias, -2 * bias]

    def apply(xs, kernel, biases):
        listed = chosen(biases, BIAS_OF)
        return sd.shared_matmul(xs, kernel, listed, NAMES, transpose_kernel, TRAINS)

    def train(apply, *sources):
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = apply(*sources)
        return outputs, tape.gradient(outputs, tf.nest.flatten(sources), output_gradients=dys)

    sources = tensors(xs), tf.constant(kernel), tensors(biases)
    if trained == "outside":
        apply = tf.function(apply)
        apply.get_concrete_function(*sources)  # before there is a tape to be seen
    train = tf.function(train) if trained == "inside" else train
    outputs, gradients = train(apply, *sources)

    exact = Oracle(xs, kernel, biases, NAMES, transpose_kernel, BIAS_OF, TRAINS)
    for i, (output, wanted) in enumerate(zip(outputs, exact.forward(), strict=True)):
        wanted.check(output, f"output {i}")
    check(gradients, flat(exact.backward(dys)))


CHOICES = {
    "some": ([0, -1, 0, 1], [False, True, False, True]),
    "one bias": ([0, 0, 0, 0], [True, True, True, False]),
    "nobody": ([1, 0, -1, 1], [False] * 4),
}


def second_order(apply, xs, kernel, biases, dys, vs):
    sources = [*xs, kernel, *biases, *dys]
    with tf.GradientTape() as outer:
        outer.watch(sources)
        with tf.GradientTape() as inner:
            inner.watch(sources)
            outputs = apply(xs, kernel, biases)
        first = inner.gradient(outputs, sources[: len(vs)], output_gradients=dys)
    found = [(g, v) for g, v in zip(first, vs, strict=True) if g is not None]
    targets, along = zip(*found, strict=True)
    second = outer.gradient(targets, sources, output_gradients=along, unconnected_gradients=ZERO)
    return first, second


def both(choice, name):
    """The op (or its fallback) and, by TensorFlow alone, what it should be."""
    bias_of, trains = CHOICES[choice]

    def ours(xs, kernel, biases):
        return sd.shared_matmul(xs, kernel, chosen(biases, bias_of), name, trains_kernel=trains)

    def plain(xs, kernel, biases):
        outputs = []
        for x, i, flag in zip(xs, bias_of, trains, strict=True):
            z = tf.tensordot(x, kernel if flag else tf.stop_gradient(kernel), 1)
            outputs.append(PLAIN[name](z + biases[i] if i >= 0 else z))
        return outputs

    return ours, plain


def choosing():
    xs, kernel, bias, dys, vs = small()
    return xs, kernel, [bias, -bias], dys, [*vs, 2 * vs[-1]]


@pytest.mark.parametrize("name", ["linear", "relu", "tanh", "gelu"])
@pytest.mark.parametrize("choice", CHOICES)
def test_second_order(path, run, choice, name):
    xs, kernel, biases, dys, vs = choosing()
    if choice == "one bias":
        biases, vs = biases[:1], vs[:-1]
    ours, plain = both(choice, name)

    got = run(lambda *a: second_order(ours, *a))(xs, kernel, biases, dys, vs)

    wanted = second_order(plain, xs, kernel, biases, dys, vs)
    nothing = [g is None for g in wanted[0]]
    assert [g is None for g in got[0]] == nothing
    assert nothing[len(xs)] == (choice == "nobody")
    for order in (0, 1):
        found, exact = ([g for g in each[order] if g is not None] for each in (got, wanted))
        agree(found, exact, order + 1)


@pytest.mark.parametrize("choice", ["some", "one bias"])
def test_third_order_and_forward_mode(path, choice):
    xs, kernel, biases, dys, vs = choosing()
    if choice == "one bias":
        biases, vs = biases[:1], vs[:-1]
    sources = [*xs, kernel, *biases]

    def third(apply):
        with tf.GradientTape() as tape:
            tape.watch(sources)
            _, second = second_order(apply, xs, kernel, biases, dys, vs)
        return tape.gradient(
            second[: len(vs)], sources, output_gradients=vs, unconnected_gradients=ZERO
        )

    def along(apply):
        with tf.autodiff.ForwardAccumulator(sources, vs) as forward, tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = apply(xs, kernel, biases)
            gradients = tape.gradient(outputs, sources, output_gradients=dys)
        return forward.jvp(outputs), forward.jvp(gradients, unconnected_gradients=ZERO)

    ours, plain = both(choice, "tanh")
    agree(third(ours), third(plain), 3)
    got, wanted = along(ours), along(plain)
    agree(got[0], wanted[0], 1)
    agree(got[1], wanted[1], 2)


def kernel_gradient(xs, kernel, dys, **how):
    kernel = tf.convert_to_tensor(kernel)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        outputs = sd.shared_matmul(xs, kernel, activation="tanh", **how)
    return tape.gradient(outputs, kernel, output_gradients=dys)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_who_does_not_train_the_kernel_does_not_show(path, run, rng, dtype):
    """Not even a NaN; on the op not in a bit, nor do two runs differ."""
    xs, kernel, _, dys = problem(rng, [(300, 7), (2, 150, 7), (301, 7)], dtype=dtype, scale=1)
    ends = ([xs[0], xs[2]], kernel, [dys[0], dys[2]])
    train = run(lambda *a: kernel_gradient(*a, trains_kernel=[True, False, True]))
    alone = run(kernel_gradient)(*ends)

    clean = train(xs, kernel, dys)
    xs[1][0, 3], dys[1][1, 4] = np.nan, np.nan
    spoilt = train(xs, kernel, dys)

    Oracle(ends[0], kernel, (), ["tanh"]).backward(ends[2])["dkernel"].check(spoilt)
    same_bits([clean], [spoilt])
    if path == "op":
        same_bits([clean], [alone])


def test_nobody_asks_for_a_kernel_gradient_that_nobody_trains(path, rng, calls):
    xs, kernel, bias, dys = problem(rng)
    kernel, sources = tf.constant(kernel), tensors([*xs, bias])
    with tf.GradientTape() as tape:
        tape.watch([*sources, kernel])
        outputs = sd.shared_matmul(sources[:-1], kernel, sources[-1], "gelu", trains_kernel=False)
    got = tape.gradient(outputs, [*sources, kernel], output_gradients=dys)

    exact = Oracle(xs, kernel, [bias], ["gelu"]).backward(dys)
    check(got[:-1], [*exact["dx"], *exact["dbias"]])
    assert got[-1] is None
    assert [call["num_kernel_grads"] for call in calls] == ([0] if path == "op" else [])


@pytest.mark.parametrize("path", ["op"], indirect=True)
@pytest.mark.parametrize(
    ("trains", "handed_on"),
    [
        (True, [True] * 3),
        ([True] * 3, [True] * 3),
        ((True, np.bool_(False), True), [True, False, True]),
        (False, [False] * 3),
    ],
)
def test_what_the_op_is_told_of_training(path, rng, trains, handed_on):
    xs, kernel, _, _ = problem(rng, [(2, 3)] * 3)
    graph = tf.function(lambda *xs: sd.shared_matmul(xs, kernel, trains_kernel=trains))

    assert the_op(graph, *xs).get_attr("trains_kernel") == handed_on


def the_op(function, *arguments):
    operations = function.get_concrete_function(*arguments).graph.get_operations()
    (op,) = (op for op in operations if op.type == "SharedDense>SharedMatMul")
    return op


@pytest.mark.parametrize("path", ["op"], indirect=True)
@pytest.mark.parametrize(
    ("pattern", "number", "bias_of"),
    [
        ("-a-", 1, [-1, 0, -1]),
        ("aba", 2, [0, 1, 0]),
        ("baa", 2, [0, 1, 1]),
        ("aaa", 1, [0, 0, 0]),
        ("---", 0, [-1, -1, -1]),
    ],
)
@pytest.mark.parametrize("kind", ["tensor", "variable", "array"])
def test_the_same_bias_is_one_and_none_costs_nothing(path, rng, kind, pattern, number, bias_of):
    xs, kernel, bias, _ = problem(rng, [(2, 3)] * 3)
    make = {"tensor": tf.constant, "variable": tf.Variable, "array": np.array}[kind]
    # Equal numbers: only identity tells them apart.
    named = {"a": make(bias), "b": make(bias), "-": None}
    graph = tf.function(lambda *xs: sd.shared_matmul(xs, kernel, [named[c] for c in pattern]))

    op = the_op(graph, *xs)

    assert (op.get_attr("B"), op.get_attr("bias_of")) == (number, bias_of)


def test_equal_biases_have_gradients_of_their_own(path, run, rng):
    xs, kernel, bias, dys = problem(rng, [(2, 3), (4, 3), (5, 3)])
    one, two = tf.Variable(bias), tf.Variable(bias)

    def train():
        with tf.GradientTape() as tape:
            outputs = sd.shared_matmul(xs, kernel, [one, two, one])
        return tape.gradient(outputs, [one, two], output_gradients=dys)

    check(run(train)(), Oracle(xs, kernel, [bias] * 2, bias_of=[0, 1, 0]).backward(dys)["dbias"])


@pytest.mark.parametrize("path", ["op"], indirect=True)
def test_gradients_that_nobody_feeds_are_zeros(path, run, rng):
    """Of the op itself; Python hands it no bias that is not used."""
    xs, kernel, bias, dys = problem(rng, [(2, 3), (4, 3)], dtype="float64")
    biases = [bias, -bias, 2 * bias]
    ops = loader.load().ops
    attributes = {"activations": ["relu"], "bias_of": [2, 0], "trains_kernel": [False, False]}

    def train(kernel, biases):
        with tf.GradientTape() as outer:
            outer.watch([kernel, biases])
            with tf.GradientTape() as inner:
                inner.watch([kernel, biases])
                ys = ops.shared_dense_shared_mat_mul(
                    inputs=xs, kernel=kernel, biases=biases, **attributes
                ).outputs
            first = inner.gradient(ys, biases, output_gradients=dys)
            grads = ops.shared_dense_shared_mat_mul_grad(
                output_grads=dys, inputs=xs, kernel=kernel, biases=biases, saved=ys,
                needs_input_grad=[False] * 2, num_input_grads=0, num_kernel_grads=1,
                num_bias_grads=3, **attributes,
            )  # fmt: skip
            found = [*grads.kernel_grads, *grads.bias_grads]
        return first, found, outer.gradient(found, [kernel, *biases], unconnected_gradients=ZERO)

    first, (dw, *dbs), second = run(train)(tf.constant(kernel), tensors(biases))

    exact = Oracle(xs, kernel, biases, ["relu"], bias_of=[2, 0]).backward(dys)["dbias"]
    check(first, exact)
    check(dbs, exact)
    for zeros in (first[1], dbs[1], dw, *second):
        assert not np.any(zeros)
