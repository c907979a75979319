"""tf.vectorized_map: one call for all iterations, with the numbers of a loop."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import sys

import numpy as np
import pytest
import tensorflow as tf
from exact import assert_equal, set_whole_weights, whole
from graphs import operations_of
from oracle import Oracle
from tensorflow.python.ops import parallel_for
from tensorflow.python.ops.parallel_for import pfor
from test_gradients import ACTIVATIONS, ZERO, check, draw, flat, tensors

import shared_dense as sd
from shared_dense.ops.activations import NEED_PRE_ACTIVATION
from shared_dense.runtime import compat, loader

FORWARD, BACKWARD = "SharedDense>SharedMatMul", "SharedDense>SharedMatMulGrad"
TIMES = 3


@dataclasses.dataclass
class Mixture:
    """A call with anything in it. Operands are dicts of lists, by the names of `shapes`."""

    dtype: str
    shapes: dict
    names: list
    transpose_kernel: bool
    bias_of: list
    trains_kernel: list

    @classmethod
    def drawn(cls, rng, fewest=0):
        n, k, u = rng.integers(1, 5), int(rng.integers(1, 9)), int(rng.integers(1, 9))
        # Ranks 1 to 3, some without rows.
        shapes = [(*map(int, rng.integers(fewest, 5, rng.integers(0, 3))), k) for _ in range(n)]
        transpose_kernel = bool(rng.integers(2))
        num_biases, bias_of = [
            (0, [-1] * n),
            (1, [0] * n),
            (n, list(range(n))),
            (2, list(map(int, rng.integers(-1, 2, n)))),
        ][rng.integers(4)]
        return cls(
            str(rng.choice(["float32", "float64"])),
            {
                "xs": shapes,
                "kernel": [(u, k) if transpose_kernel else (k, u)],
                "biases": [(u,)] * num_biases,
                "dys": [(*shape[:-1], u) for shape in shapes],
            },
            list(map(str, rng.choice(list(ACTIVATIONS), n))),
            transpose_kernel,
            bias_of,
            [bool(flag) for flag in rng.random(n) < 0.7],
        )

    def values(self, rng, differs):
        """Random operands, with an axis of iterations where they differ."""
        return {
            name: [
                draw(rng, *[TIMES] * flag, *shape, dtype=self.dtype, scale=6 / shape[-1] ** 0.5)
                for shape, flag in zip(shapes, differs[name], strict=True)
            ]
            for name, shapes in self.shapes.items()
        }

    def oracle(self, xs, kernel, biases):
        return Oracle(
            xs,
            *kernel,
            biases,
            self.names,
            self.transpose_kernel,
            self.bias_of,
            self.trains_kernel,
        )


def in_iterations(function, values, differs, at_once):
    """vectorized_map over the operands that differ, in any order of the function's arguments."""
    elements = [v for n in values for v, d in zip(values[n], differs[n], strict=True) if d]

    def iteration(elements):
        rest = iter(elements)
        operands = {
            n: [next(rest) if d else v for v, d in zip(tensors(values[n]), differs[n], strict=True)]
            for n in values
        }
        return function(**operands)

    return at_once(lambda elements: tf.vectorized_map(iteration, elements), tensors(elements))


def differing(rng, shapes, **likely):
    """Per operand, whether it differs between the iterations; at least one does."""
    differs = {n: [bool(rng.random() < likely[n]) for _ in shapes[n]] for n in shapes}
    differs["dys"][0] |= not any(itertools.chain(*differs.values()))
    return differs


@pytest.mark.parametrize("case", range(24))
def test_anything(path, at_once, case):
    rng = np.random.default_rng(case)
    # TensorFlow's own matmul of empty matrices loses their width here: [3, 0, 0] for [3, 0, 2].
    mixture = Mixture.drawn(rng, fewest=0 if path == "op" else 1)
    differs = differing(rng, mixture.shapes, xs=0.7, kernel=0.3, biases=0.3, dys=0.7)
    values = mixture.values(rng, differs)

    def function(xs, kernel, biases, dys):
        sources = [*xs, *kernel, *biases]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = sd.shared_matmul(
                xs,
                *kernel,
                [None if j < 0 else biases[j] for j in mixture.bias_of],
                mixture.names,
                mixture.transpose_kernel,
                mixture.trains_kernel,
            )
        # Of a bias that nobody uses, plain ops have no gradient.
        return outputs, tape.gradient(
            outputs, sources, output_gradients=dys, unconnected_gradients=ZERO
        )

    outputs, gradients = in_iterations(function, values, differs, at_once)

    for i in range(TIMES):
        operands = {
            n: [v[i] if d else v for v, d in zip(values[n], differs[n], strict=True)]
            for n in values
        }
        dys = operands.pop("dys")
        exact = mixture.oracle(**operands)
        check([y[i] for y in outputs], exact.forward())
        check([g[i] for g in gradients], flat(exact.backward(dys)))


@pytest.mark.parametrize("case", range(12))
def test_the_gradient_op_takes_any_of_its_operands_stacked(at_once, case):
    """All iterations alike, so that a cache may be stacked where what it was made of is not."""
    rng = np.random.default_rng(100 + case)
    mixture = Mixture.drawn(rng)
    values = mixture.values(rng, {n: [False] * len(s) for n, s in mixture.shapes.items()})
    xs, kernel, biases, dys = values.values()
    exact = mixture.oracle(xs, kernel, biases)
    attributes = {
        "activations": mixture.names,
        "transpose_kernel": mixture.transpose_kernel,
        "bias_of": mixture.bias_of,
        "trains_kernel": mixture.trains_kernel,
    }
    ops = loader.load().ops
    made = ops.shared_dense_shared_mat_mul(
        inputs=xs, kernel=kernel[0], biases=biases, **attributes, num_pre_activations=len(xs)
    )
    values["saved"] = [
        (z if name in NEED_PRE_ACTIVATION else y).numpy()
        for y, z, name in zip(made.outputs, made.pre_activations, mixture.names, strict=True)
    ]
    needed = [bool(flag) for flag in rng.integers(0, 2, len(xs))]

    def function(xs, kernel, biases, dys, saved):
        found = ops.shared_dense_shared_mat_mul_grad(
            output_grads=dys,
            inputs=xs,
            kernel=kernel[0],
            biases=biases,
            saved=saved,
            **attributes,
            needs_input_grad=needed,
            num_input_grads=sum(needed),
            num_kernel_grads=1,
            num_bias_grads=len(biases),
        )
        return [*found.input_grads, *found.kernel_grads, *found.bias_grads]

    half = dict.fromkeys(values, 0.5)
    differs = differing(rng, values, **half)
    repeated = {
        n: [np.stack([v] * TIMES) if d else v for v, d in zip(values[n], differs[n], strict=True)]
        for n in values
    }
    found = in_iterations(function, repeated, differs, at_once)

    gradients = exact.backward(dys)
    gradients["dx"] = list(itertools.compress(gradients["dx"], needed))
    for i in range(TIMES):
        check([g[i] for g in found], flat(gradients))


@pytest.mark.parametrize("rows", [(2, 3), (2, 0)])
def test_inputs_of_no_width(at_once, rng, rows):
    """Whose rows cannot be counted by dividing by it."""
    bias = draw(rng, 5)

    def function(operands):
        with tf.GradientTape() as tape:
            tape.watch(operands)
            x, kernel = operands
            (y,) = sd.shared_matmul([x], kernel, bias)
        return y, *tape.gradient(y, operands)

    x, kernel = tf.zeros([TIMES, *rows, 0]), tf.zeros([TIMES, 0, 5])
    y, dx, dkernel = at_once(lambda *o: tf.vectorized_map(function, o), x, kernel)

    np.testing.assert_array_equal(y, np.broadcast_to(bias, (TIMES, *rows, 5)))
    assert dx.shape == x.shape
    assert dkernel.shape == kernel.shape


def test_stacked_inputs_are_one_call_with_more_rows(at_once, rng):
    """And their gradients another."""
    xs, kernel = [draw(rng, TIMES, 2, 7), draw(rng, TIMES, 7)], draw(rng, 7, 5)
    bias = draw(rng, 5)

    def forward(xs):
        return sd.shared_matmul(xs, kernel, bias, "relu")

    def backward(xs):
        with tf.GradientTape() as tape:
            tape.watch(xs)
            outputs = forward(xs)
        return tape.gradient(outputs, xs)

    at_once(lambda xs: tf.vectorized_map(forward, xs), tensors(xs))
    assert [at_once.count(name) for name in (FORWARD, BACKWARD, "MatMul", "BatchMatMulV2")] == [
        1, 0, 0, 0,
    ]  # fmt: skip
    at_once(lambda xs: tf.vectorized_map(backward, xs), tensors(xs))
    assert [at_once.count(name) for name in (FORWARD, BACKWARD, "MatMul", "BatchMatMulV2")] == [
        2, 0, 0, 0,
    ]  # fmt: skip


@pytest.mark.parametrize("op_type", [FORWARD, BACKWARD])
def test_without_a_converter_it_is_a_loop_with_the_same_numbers(
    rng, monkeypatch, warnings_of_loops, op_type
):
    """What happens where TensorFlow has no such registry any more, or another one."""
    monkeypatch.delitem(pfor._pfor_converter_registry, op_type)
    xs, kernel = draw(rng, TIMES, 2, 7), tf.constant(draw(rng, 7, 5))

    def function(x):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            (y,) = sd.shared_matmul([x], kernel, None, "gelu")
        return y, tape.gradient(y, kernel)

    traced = tf.function(lambda xs: tf.vectorized_map(function, xs)).get_concrete_function(xs)

    assert any(op_type in warning for warning in warnings_of_loops)
    assert {"While", "StatelessWhile"} & set(operations_of(traced))
    outputs, gradients = traced(tf.constant(xs))
    for x, output, gradient in zip(xs, outputs, gradients, strict=True):
        exact = Oracle([x], kernel, [], ["gelu"])
        check([output], exact.forward())
        check([gradient], [exact.backward([np.ones_like(output)])["dkernel"]])


def layers():
    down = sd.SharedDense(6, activation="relu")
    table = {"a": {"activation": "relu"}, "b": {"bias": None}, "c": {"trains_kernel": False}}
    return {
        "shared": (down, down),
        "branches": (
            branches := sd.SharedDense(6, branches=table),
            lambda xs: list(branches(dict(zip(table, xs, strict=True))).values()),
        ),
        "tied": (
            up := sd.TransposedDense(tied_to=(dense := sd.SharedDense(6))),
            lambda xs: up(dense(xs)),
        ),
    }


def test_a_tensorflow_that_has_moved_its_registry(monkeypatch):
    """Nothing is registered, and nothing raised."""
    registry = {}
    monkeypatch.setattr(pfor, "_pfor_converter_registry", registry)
    monkeypatch.setitem(sys.modules, pfor.__name__, None)
    monkeypatch.delattr(parallel_for, "pfor")
    spec = importlib.util.spec_from_file_location("compat_without_pfor", compat.__file__)
    alone = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alone)

    alone.register_vectorized(FORWARD, None)

    assert not registry
    compat.register_vectorized(FORWARD, None)
    assert list(registry) == [FORWARD]


@pytest.mark.parametrize("kind", ["shared", "branches", "tied"])
def test_layers_and_gradients_of_each_example(path, at_once, rng, kind):
    """In whole numbers, where every order of adding up gives the same."""
    layer, apply = layers()[kind]
    xs = tensors(whole(rng, TIMES, *rows, 4) for rows in [(2,), (1,), (2, 2)])
    apply([x[0] for x in xs])
    set_whole_weights(rng, layer)
    weights = [w.value for w in layer.trainable_weights]

    def example(xs):
        with tf.GradientTape() as tape:
            outputs = apply(xs)
            loss = sum(tf.reduce_sum(y * y) for y in outputs)
        return outputs, tape.gradient(loss, weights)

    got = at_once(lambda xs: tf.vectorized_map(example, xs), xs)

    for i in range(TIMES):
        assert_equal([[g[i] for g in found] for found in got], list(example([x[i] for x in xs])))


def test_one_inside_the_other(path, at_once, rng):
    """Each kernel of several on each input of several; shapes known when it runs."""
    xs, kernels, bias = draw(rng, 4, 2, 7), draw(rng, TIMES, 7, 5), draw(rng, 5)

    def grid(xs, kernels):
        def with_kernel(kernel):
            return tf.vectorized_map(
                lambda x: sd.shared_matmul([x, x[0]], kernel, bias, ["silu", "relu"]), xs
            )

        return tf.vectorized_map(with_kernel, kernels)

    unknown = [tf.TensorSpec([None] * 3)] * 2
    got = at_once(grid, *tensors([xs, kernels]), signature=unknown)

    for i, j in itertools.product(range(TIMES), range(4)):
        exact = Oracle([xs[j], xs[j, 0]], kernels[i], [bias], ["silu", "relu"])
        check([y[i, j] for y in got], exact.forward())


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("stacked", "shape"),
    [("bias", [TIMES, 1]), ("bias", [TIMES, 1, 5]), ("kernel", [1]), ("kernel", [1, 5])],
)
def test_a_bias_that_would_broadcast(rng, stacked, shape, compiled):
    """Shapes known only when it runs: the op never sees a bias that is added after it."""
    xs, kernel = draw(rng, TIMES, 4, 7), draw(rng, 7, 5)

    @tf.function(input_signature=[tf.TensorSpec(None)] * 3, jit_compile=compiled)
    def call(xs, kernel, bias):
        if stacked == "bias":
            return tf.vectorized_map(lambda b: sd.shared_matmul([xs[0]], kernel, b), bias)
        return tf.vectorized_map(lambda w: sd.shared_matmul([xs[0]], w, bias), kernel)

    if stacked == "kernel":
        kernel = np.stack([kernel] * TIMES)
    says = "values, but|not compatible" if compiled else "bias must have"
    with pytest.raises(tf.errors.InvalidArgumentError, match=says):
        call(*tensors([xs, kernel, draw(rng, *shape)]))


def test_compiled_by_xla(path, at_once, rng):
    xs, kernel = draw(rng, TIMES, 4, 7), tf.constant(draw(rng, 7, 5))

    def example(x):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            (y,) = sd.shared_matmul([x], kernel, None, "gelu")
        return y, tape.gradient(y, kernel)

    outputs, gradients = at_once(
        lambda xs: tf.vectorized_map(example, xs), tf.constant(xs), compiled=True
    )

    for x, output, gradient in zip(xs, outputs, gradients, strict=True):
        exact = Oracle([x], kernel, [], ["gelu"])
        check([output], exact.forward())
        check([gradient], [exact.backward([np.ones_like(output)])["dkernel"]])
