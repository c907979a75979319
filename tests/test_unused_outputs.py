"""Outputs that a loss does not use: no gradient reaches what only they use, as with plain reuse."""

from __future__ import annotations

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from oracle import Oracle
from test_gradients import check, problem, small, tensors

import shared_dense as sd

SUBSETS = [[0], [2], [0, 2], [1, 3], [4, 1, 0], [0, 1, 2, 3, 4]]


def traced(how):
    """Runs a function that returns gradients, and says which of them were None."""
    none = []

    def call(function, *sources):
        def dense(*sources):
            found = function(*sources)
            none[:] = [g is None for g in found]
            return [tf.zeros([]) if g is None else tf.convert_to_tensor(g) for g in found]

        wrapped = {
            "eager": dense,
            "function": tf.function(dense),
            "jit": tf.function(dense, jit_compile=True),
        }[how](*sources)
        return [None if empty else g for empty, g in zip(none, wrapped, strict=True)]

    return call


@pytest.fixture(params=["eager", "function", "jit"])
def gradients_of(request):
    return traced(request.param)


@pytest.mark.parametrize("used", SUBSETS)
@pytest.mark.parametrize("name", ["linear", "tanh", "silu"])
def test_first_order(path, gradients_of, rng, used, name):
    """Values of the inputs in use, and None for the rest: two biases, one input without."""
    xs, kernel, bias, dys = problem(rng)
    biases, bias_of = [bias, 2 * bias], [0, 1, -1, 1, 0]
    trains = [False, True, False, True, True]

    def ask(*sources):
        *inputs, w, first, second = sources
        each = [{0: first, 1: second, -1: None}[index] for index in bias_of]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            ys = sd.shared_matmul(inputs, w, each, name, trains_kernel=trains)
        chosen = [dys[i] for i in used]
        return tape.gradient([ys[i] for i in used], sources, output_gradients=chosen)

    found = gradients_of(ask, *tensors([*xs, kernel, *biases]))

    exact = Oracle(
        [xs[i] for i in used],
        kernel,
        biases,
        [name],
        bias_of=[bias_of[i] for i in used],
        trains_kernel=[trains[i] for i in used],
    ).backward([dys[i] for i in used])
    wanted = [None] * len(xs)
    for i, dx in zip(used, exact["dx"], strict=True):
        wanted[i] = dx
    wanted.append(exact["dkernel"] if any(trains[i] for i in used) else None)
    wanted += [
        db if any(bias_of[i] == index for i in used) else None
        for index, db in enumerate(exact["dbias"])
    ]
    assert [g is None for g in found] == [exact is None for exact in wanted]
    check([g for g in found if g is not None], [exact for exact in wanted if exact is not None])


def test_a_nan_in_an_unused_input_goes_nowhere(path, gradients_of, rng):
    xs, kernel, bias, dys = problem(rng, [(3, 7), (2, 7)])
    xs[1][:] = np.nan

    def ask(*sources):
        with tf.GradientTape() as tape:
            tape.watch(sources)
            first, _ = sd.shared_matmul(sources[:2], *sources[2:], "gelu")
        return tape.gradient(first, sources, output_gradients=dys[0])

    x, unused, *weights = gradients_of(ask, *tensors([*xs, kernel, bias]))

    assert unused is None
    exact = Oracle(xs[:1], kernel, [bias], ["gelu"]).backward(dys[:1])
    check([x, *weights], [exact["dx"][0], exact["dkernel"], *exact["dbias"]])


def test_zeros_that_somebody_computes_are_a_gradient(path, gradients_of, rng):
    """Of a loss times nothing, and of zeros handed over as the gradient of an output."""
    xs, kernel, bias, _ = problem(rng, [(3, 7), (2, 7)])

    def ask(*sources):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(sources)
            a, b = sd.shared_matmul(sources[:2], *sources[2:])
            loss = tf.reduce_sum(a) + 0 * tf.reduce_sum(b)
        zeros = [tf.ones_like(a), tf.zeros_like(b)]
        return [
            tape.gradient(loss, sources[1]),
            tape.gradient([a, b], sources[1], output_gradients=zeros),
        ]

    for found in gradients_of(ask, *tensors([*xs, kernel, bias])):
        np.testing.assert_array_equal(found, np.zeros_like(xs[1]))


def test_a_tape_is_asked_again(path, gradients_of, rng):
    """What one question used says nothing of the next, nor does a gradient that comes again."""
    xs, kernel, _, dys = problem(rng, [(3, 7), (3, 7)])
    biases = [dys[0][0], dys[1][1]]
    questions = [[0], [1], [0, 1], [0], [1, 1]]

    def ask(*sources):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(sources)
            ys = sd.shared_matmul(sources[:2], sources[2], sources[3:])
        one = tf.convert_to_tensor(dys[0])
        return [
            g
            for used in questions
            for g in tape.gradient(
                [ys[i] for i in used], sources[3:], output_gradients=[one] * len(used)
            )
        ]

    found = gradients_of(ask, *tensors([*xs, kernel, *biases]))

    assert [g is None for g in found] == [i not in used for used in questions for i in (0, 1)]
    sums = [g.numpy() for g in found if g is not None]
    for got, times in zip(sums, [1, 1, 1, 1, 1, 2], strict=True):
        np.testing.assert_allclose(got, times * dys[0].sum(0), 1e-5, 1e-6)


def test_tf_gradients(path, rng):
    """Of a graph of TensorFlow 1: no tape sees the call."""
    xs, kernel, bias, _ = problem(rng, [(3, 7), (2, 7)])
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        w, *biases = tensors([kernel, bias, bias])
        first, _ = sd.shared_matmul(tensors(xs), w, biases)
        found = tf.gradients(first, [w, *biases])
        assert found[2] is None
        db = session.run(found[1])
    np.testing.assert_array_equal(db, np.full_like(bias, 3))


def test_a_tape_around_a_function(path, rng):
    """The function was traced without the tape, and gives one of its outputs away."""
    xs, kernel, bias, _ = problem(rng, [(3, 7), (2, 7)])
    w, used, idle = tensors([kernel, bias, bias])

    @tf.function
    def first(a, b):
        return sd.shared_matmul([a, b], w, [used, idle])[0]

    with tf.GradientTape() as tape:
        tape.watch([w, used, idle])
        y = first(*tensors(xs))
    found = tape.gradient(y, [used, idle])

    assert found[1] is None
    np.testing.assert_array_equal(found[0], np.full_like(bias, 3))


@pytest.mark.parametrize("name", ["linear", "tanh", "gelu"])
@pytest.mark.parametrize("tapes", ["persistent", "two"])
def test_a_function_under_a_tape_that_may_be_asked_again(path, rng, tapes, name):
    """TensorFlow then keeps the results, and adds to their gradients."""
    xs, kernel, bias, dys = problem(rng, [(3, 7), (2, 7)])
    xs[1][:] = np.inf
    sources = tensors([*xs, kernel, bias])

    @tf.function
    def first(*sources):
        return sd.shared_matmul(sources[:2], *sources[2:], name)[0]

    with contextlib.ExitStack() as stack:
        tape = stack.enter_context(tf.GradientTape(persistent=True))
        tape.watch(sources)
        if tapes == "two":
            stack.enter_context(tf.GradientTape()).watch(sources)
        y = first(*sources)
    x, unused, *weights = tape.gradient(y, sources, output_gradients=dys[0])

    assert unused is None
    exact = Oracle(xs[:1], kernel, [bias], [name]).backward(dys[:1])
    check([x, *weights], [exact["dx"][0], exact["dkernel"], *exact["dbias"]])


def test_a_gradient_from_numpy(path, run, rng):
    """As `tf.custom_gradient` may give it."""
    xs, kernel, bias, dys = problem(rng, [(3, 7), (2, 7)])

    @tf.custom_gradient
    def doubled(y):
        return 2 * y, lambda dy: dys[0]

    @run
    def ask(*sources):
        with tf.GradientTape() as tape:
            tape.watch(sources)
            loss = tf.reduce_sum(doubled(sd.shared_matmul(sources[:2], *sources[2:])[0]))
        return tape.gradient(loss, [sources[0], *sources[2:]])

    exact = Oracle(xs[:1], kernel, [bias]).backward(dys[:1])
    check(ask(*tensors([*xs, kernel, bias])), [exact["dx"][0], exact["dkernel"], *exact["dbias"]])


@pytest.mark.parametrize("used", [[0], [1], [0, 2]])
def test_second_order(path, gradients_of, used):
    """A penalty on the gradients of some inputs, which are results of one op, too."""
    xs, kernel, bias, _, _ = small()

    def second(product, *sources):
        *inputs, w, b = sources
        with tf.GradientTape() as outer:
            outer.watch(sources)
            with tf.GradientTape() as inner:
                inner.watch(sources)
                loss = tf.add_n([tf.reduce_sum(y) for y in product(inputs, w, b)])
            first = inner.gradient(loss, inputs)
            penalty = tf.add_n([tf.reduce_sum(first[i] ** 2) for i in used])
        return outer.gradient(penalty, sources)

    def plain(inputs, w, b):
        return [tf.tanh(tf.tensordot(x, w, 1) + b) for x in inputs]

    def ours(inputs, w, b):
        return sd.shared_matmul(inputs, w, b, "tanh")

    sources = tensors([*xs, kernel, bias])
    got = gradients_of(lambda *s: second(ours, *s), *sources)
    wanted = traced("eager")(lambda *s: second(plain, *s), *sources)

    assert [g is None for g in got] == [g is None for g in wanted]
    for a, b in zip(got, wanted, strict=True):
        if a is not None:
            np.testing.assert_allclose(a, b, 1e-12, 1e-12 * np.abs(b).max(initial=1))


def test_a_graph_holds_each_result_once(rng):
    """The op's gradient reads what was handed out, so that a function gives none away twice."""
    xs, kernel, _, _ = problem(rng, [(3, 7), (2, 7)])

    @tf.function
    def ask(*sources):
        with tf.GradientTape() as tape:
            tape.watch(sources)
            ys = sd.shared_matmul(sources[:2], sources[2], activation="tanh")
        return tape.gradient(ys, sources)

    operations = ask.get_concrete_function(*tensors([*xs, kernel])).graph.get_operations()
    (product,) = [op for op in operations if op.type == "SharedDense>SharedMatMul"]
    readers = [reader.type for y in product.outputs for reader in y.consumers()]
    assert readers == ["SharedDense>SharedMatMulOutput"] * 2


OPTIMIZERS = [
    lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1),
    lambda: keras.optimizers.SGD(0.1, momentum=0.9),
]


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("how", ["eager", "function", "jit", "fit", "fit with jit"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_idle_branch_does_not_move(path, rng, how, optimizer):
    """After one step on all outputs, which leaves momentum behind, and two on one of them."""
    a, b = (tf.constant(rng.uniform(-1, 1, (6, 5)), tf.float32) for _ in range(2))
    shared = sd.SharedDense(4, branches={"used": {"bias": "used"}, "idle": {"bias": "idle"}})
    towers = [keras.layers.Dense(5, use_bias=False) for _ in range(2)]
    inputs = {name: keras.Input((5,), name=name) for name in ("used", "idle")}
    outputs = shared({name: towers[i](x) for i, (name, x) in enumerate(inputs.items())})
    model = keras.Model(inputs, outputs)
    weights = model.trainable_variables
    rule = optimizer()
    rule.build(weights)

    def step(names):
        with tf.GradientTape() as tape:
            ys = model({"used": a, "idle": b})
            loss = tf.add_n([tf.reduce_sum(ys[name] ** 2) for name in names])
        rule.apply(tape.gradient(loss, [w.value for w in weights]), weights)

    steps = dict.fromkeys(("all", "one"), step)
    if how in ("function", "jit"):
        steps = {name: tf.function(step, jit_compile=how == "jit") for name in steps}
    steps["all"](["used", "idle"])
    idle = [shared.biases["idle"], *towers[1].weights]
    before = [w.numpy() for w in idle]
    moving = shared.biases["used"].numpy()
    if how.startswith("fit"):
        model.compile(rule, loss={"used": "mse", "idle": None}, jit_compile="jit" in how)
        data = {"used": a.numpy(), "idle": b.numpy()}
        model.fit(data, {"used": np.zeros((6, 4), "float32")}, epochs=2, verbose=0)
    else:
        for _ in range(2):
            steps["one"](["used"])

    assert np.any(shared.biases["used"].numpy() != moving)
    for weight, old in zip(idle, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old, weight.path)
