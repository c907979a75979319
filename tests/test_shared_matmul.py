"""Values of shared_matmul against the oracle: every activation, bias, shape and dtype it takes."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from graphs import operations_of
from oracle import ACTIVATIONS, Exact, Oracle, gamma, roundoff

import shared_dense as sd
from shared_dense.ops import activations
from shared_dense.runtime import paths

RAGGED = [(3, 7), (1, 7), (0, 7), (2, 5, 7), (7,)]


def draw(rng, *shape, dtype="float32"):
    # Wide enough that sums of seven products pass 6 on one side and saturate on the other.
    return rng.uniform(-3, 3, shape).astype(dtype)


def check(outputs, xs, kernel, biases=(), activations=("linear",), transpose_kernel=False):
    assert isinstance(outputs, list)
    exact = Oracle(xs, kernel, biases, activations, transpose_kernel).forward()
    for i, (output, wanted) in enumerate(zip(outputs, exact, strict=True)):
        assert output.dtype.as_numpy_dtype == kernel.dtype
        wanted.check(output, f"outputs[{i}]")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_by_name(path, run, rng, name, dtype):
    xs = [draw(rng, *shape, dtype=dtype) for shape in RAGGED]
    kernel, bias = draw(rng, 7, 11, dtype=dtype), draw(rng, 11, dtype=dtype)

    outputs = run(lambda *xs: sd.shared_matmul(xs, kernel, bias, name))(*xs)

    check(outputs, xs, kernel, [bias], [name])


TENSORFLOW = {
    tf.identity: "linear",
    tf.nn.relu: "relu",
    tf.nn.relu6: "relu6",
    tf.nn.leaky_relu: "leaky_relu",
    tf.nn.elu: "elu",
    tf.nn.sigmoid: "sigmoid",
    tf.sigmoid: "sigmoid",
    tf.nn.tanh: "tanh",
    tf.tanh: "tanh",
    tf.nn.silu: "silu",
    tf.nn.swish: "silu",
    tf.nn.gelu: "gelu",
}
KERAS = {
    getattr(keras.activations, name): name
    for name in ACTIVATIONS
    if hasattr(keras.activations, name)
}


@pytest.mark.parametrize(
    ("function", "name"),
    [pytest.param(f, name, id=f"tf-{name}") for f, name in TENSORFLOW.items()]
    + [pytest.param(f, name, id=f"keras-{name}") for f, name in KERAS.items()],
)
def test_activation_by_function_is_fused(path, rng, function, name):
    xs, kernel = [draw(rng, 4, 7), draw(rng, 1, 7)], draw(rng, 7, 5)

    assert activations.resolve(function) == (name, None)
    check(sd.shared_matmul(xs, kernel, activation=function), xs, kernel, (), [name])
    # The function itself agrees that this is its name.
    check([function(tf.matmul(x, kernel)) for x in xs], xs, kernel, (), [name])


class Unhashable:
    __hash__ = None

    def __call__(self, z):
        return tf.sin(z)


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda z: tf.sin(z), id="lambda"),
        pytest.param(Unhashable(), id="unhashable"),
        pytest.param(keras.activations.softplus, id="softplus"),
        pytest.param(functools.partial(tf.nn.leaky_relu, alpha=0.5), id="another slope"),
        pytest.param(functools.partial(tf.nn.gelu, approximate=True), id="partial"),
        pytest.param(tf.nn.softmax, id="not elementwise"),
    ],
)
def test_any_other_function_is_applied_after(path, rng, function):
    xs, kernel, bias = [draw(rng, 4, 7), draw(rng, 2, 3, 7)], draw(rng, 7, 5), draw(rng, 5)

    outputs = sd.shared_matmul(xs, kernel, bias, function)

    wanted = [function(z) for z in sd.shared_matmul(xs, kernel, bias)]
    for output, value in zip(outputs, wanted, strict=True):
        np.testing.assert_array_equal(output, value)


def test_one_activation_per_input(path, run, rng):
    xs = [draw(rng, rows, 7) for rows in (3, 1, 4, 5, 2)]
    kernel, bias = draw(rng, 7, 5), draw(rng, 5)
    listed = ["gelu", None, tf.nn.relu, "swish", tf.square]

    outputs = run(lambda *xs: sd.shared_matmul(xs, kernel, bias, listed))(*xs)

    check(outputs[:4], xs[:4], kernel, [bias], ["gelu", "linear", "relu", "silu"])
    z = Oracle(xs[4:], kernel, [bias]).forward()[0]
    slope = 2 * np.abs(z.value) + z.bound
    Exact(z.value**2, slope * z.bound + 2 * roundoff("float32") * z.value**2).check(outputs[4])


@pytest.mark.parametrize("transpose_kernel", [False, True])
@pytest.mark.parametrize("kind", ["none", "one", "list", "gaps", "all gaps", "tuple"])
def test_bias(path, run, rng, kind, transpose_kernel):
    xs = [draw(rng, *shape) for shape in [(3, 7), (7,), (2, 2, 7)]]
    kernel = draw(rng, *((5, 7) if transpose_kernel else (7, 5)))
    b = [draw(rng, 5) for _ in xs]
    zero = np.zeros(5, "float32")
    bias, wanted = {
        "none": (None, []),
        "one": (b[0], b[:1]),
        "list": (b, b),
        "gaps": ([None, b[1], None], [zero, b[1], zero]),
        "all gaps": ([None] * 3, []),
        "tuple": (tuple(b), b),
    }[kind]

    outputs = run(
        lambda *xs: sd.shared_matmul(xs, kernel, bias, "relu", transpose_kernel=transpose_kernel)
    )(*xs)

    check(outputs, xs, kernel, wanted, ["relu"], transpose_kernel)


@pytest.mark.parametrize("transpose_kernel", [False, True])
@pytest.mark.parametrize(
    ("shapes", "in_features", "units"),
    [
        pytest.param([(9,)], 9, 5, id="one vector"),
        pytest.param([(2, 1, 3, 9), (9,), (4, 9), (2, 3, 9)], 9, 5, id="mixed ranks"),
        pytest.param([(0, 9)], 9, 5, id="nothing but empty"),
        pytest.param([(0, 9), (3, 9), (2, 0, 9), (1, 9), (0, 9)], 9, 5, id="empty among others"),
        pytest.param([(1, 9)] * 40, 9, 5, id="forty inputs of a row"),
        pytest.param([(3, 1), (1,)], 1, 5, id="K 1"),
        pytest.param([(3, 9), (2, 9)], 9, 1, id="U 1"),
        pytest.param([(1, 1)], 1, 1, id="all 1"),
        pytest.param([(3, 0), (2, 2, 0)], 0, 5, id="K 0"),
        pytest.param([(3, 9), (9,)], 9, 0, id="U 0"),
        pytest.param([(13, 31), (17, 31), (1, 31)], 31, 37, id="primes"),
        pytest.param([(67, 389), (3, 389), (131, 389)], 389, 83, id="several blocks"),
        pytest.param([(2, 1031), (1, 1031)], 1031, 521, id="few rows, large kernel"),
    ],
)
def test_shapes(path, rng, shapes, in_features, units, transpose_kernel):
    xs = [draw(rng, *shape) for shape in shapes]
    kernel = draw(rng, *((units, in_features) if transpose_kernel else (in_features, units)))
    bias = draw(rng, units)

    outputs = sd.shared_matmul(xs, kernel, bias, transpose_kernel=transpose_kernel)

    check(outputs, xs, kernel, [bias], transpose_kernel=transpose_kernel)


@pytest.mark.parametrize(
    ("known", "inferred"),
    [
        pytest.param([None, 7], [None, 5], id="rows"),
        pytest.param([4, None], [4, 5], id="width"),
        pytest.param([None, None], [None, 5], id="both"),
        pytest.param([2, None, 7], [2, None, 5], id="rank 3"),
        pytest.param([None], [5], id="rank 1"),
        pytest.param(None, None, id="rank"),
    ],
)
@pytest.mark.parametrize("kernel_known", [True, False])
def test_shapes_known_when_it_runs(path, rng, known, inferred, kernel_known):
    if not kernel_known and inferred is not None:
        inferred = [*inferred[:-1], None]
    symbolic = []

    @tf.function(
        input_signature=[
            tf.TensorSpec(known),
            tf.TensorSpec([7, 5] if kernel_known else None),
            tf.TensorSpec([5] if kernel_known else None),
        ]
    )
    def apply(x, kernel, bias):
        outputs = sd.shared_matmul([x, x[:1] if x.shape.rank != 1 else x], kernel, bias, "tanh")
        symbolic.append(outputs[0].shape)
        return outputs

    rank = 2 if known is None else len(known)
    for rows in (4, 0, 1) if known != [4, None] else (4,):
        x = draw(rng, *[(7,), (rows, 7), (2, rows, 7)][rank - 1])
        kernel, bias = draw(rng, 7, 5), draw(rng, 5)
        check(apply(x, kernel, bias), [x, x[:1] if rank > 1 else x], kernel, [bias], ["tanh"])
    assert len(symbolic) == 1, "traced again"
    if path == "op":
        # Nothing known is lost on the way out.
        assert symbolic[0].rank == (None if inferred is None else len(inferred))
        assert inferred is None or symbolic[0].as_list() == inferred
    else:
        assert symbolic[0].is_compatible_with(inferred)


def test_variables_arrays_and_lists(path, run, rng):
    xs = [draw(rng, 3, 7), draw(rng, 2, 7), draw(rng, 1, 7)]
    kernel, bias = draw(rng, 7, 5), draw(rng, 5)
    w, b = tf.Variable(kernel), tf.Variable(bias)
    given = (tf.Variable(xs[0]), xs[1], xs[2].tolist())
    apply = run(lambda: sd.shared_matmul(given, w, b, "relu"))

    check(apply(), xs, kernel, [bias], ["relu"])
    # What an optimizer does between two calls is seen by the second.
    w.assign_add(w)
    check(apply(), xs, 2 * kernel, [bias], ["relu"])
    check(sd.shared_matmul(xs, kernel.tolist(), tf.constant(bias)), xs, kernel, [bias])


def test_the_same_tensor_twice(path, run, rng):
    x, kernel = draw(rng, 3, 7), draw(rng, 7, 5)

    outputs = run(lambda x: sd.shared_matmul([x, x], kernel, [None, kernel[0]]))(x)

    check(outputs, [x, x], kernel, [np.zeros(5, "float32"), kernel[0]])


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_bad_row_spoils_no_other(path, rng, poison):
    xs, kernel = [draw(rng, 5, 7), draw(rng, 3, 7)], draw(rng, 7, 5)
    clean = sd.shared_matmul(xs, kernel)
    xs[0][2, 3] = poison

    spoiled = sd.shared_matmul(xs, kernel)

    assert not np.isfinite(spoiled[0][2]).any()
    np.testing.assert_array_equal(np.delete(spoiled[0], 2, 0), np.delete(clean[0], 2, 0))
    np.testing.assert_array_equal(spoiled[1], clean[1])


@pytest.mark.parametrize("name", ["linear", "relu", "sigmoid", "gelu"])
@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16], ids=["bfloat16", "float16"])
def test_half_types(path, run, rng, dtype, name):
    """On the op: the bits of float32 on the same numbers, rounded once, forward and backward."""
    units, depth = 5, 7
    xs = [tf.cast(draw(rng, *shape) / 3, dtype) for shape in [(4, depth), (2, 3, depth)]]
    kernel, bias = tf.cast(draw(rng, depth, units) / 3, dtype), tf.cast(draw(rng, units), dtype)
    dys = [tf.cast(draw(rng, *x.shape[:-1], units), dtype) for x in xs]

    def results(xs, kernel, bias, dys):
        with tf.GradientTape() as tape:
            tape.watch([xs, kernel, bias])
            ys = sd.shared_matmul(xs, kernel, bias, name)
        return ys, tape.gradient(ys, [*xs, kernel, bias], output_gradients=dys)

    outputs, grads = run(results)(xs, kernel, bias, dys)
    wide = tf.nest.map_structure(lambda x: tf.cast(x, tf.float32), [xs, kernel, bias, dys])
    wanted, wanted_grads = run(results)(*wide)
    assert {x.dtype for x in (*outputs, *grads)} == {dtype}
    if path == "op":
        pairs = list(zip(outputs, wanted, strict=True))
        if name == "linear":  # the slopes of others follow from what was rounded
            pairs += zip(grads, wanted_grads, strict=True)
        for got, full in pairs:
            np.testing.assert_array_equal(got, tf.cast(full, dtype))
    # Every step rounded to the half type, as the fallback does: the float32 bound, rescaled to
    # that roundoff (NumPy's finfo does not know bfloat16).
    numbers = [x.numpy() for x in (*wide[0], wide[1], wide[2])]
    u = {"bfloat16": 2.0**-8, "float16": 2.0**-11}[dtype.name]
    grown = u / roundoff("float32") / (1 - (depth + 2) * u)
    oracle = Oracle(numbers[:2], numbers[2], numbers[3:], [name])
    for output, exact in zip(outputs, oracle.forward(), strict=True):
        Exact(exact.value, exact.bound * grown).check(output.numpy().astype("float32"))


def test_one_op_for_all_inputs(path, rng):
    xs, kernel = [draw(rng, rows, 7) for rows in (3, 1, 4)], draw(rng, 7, 5)
    apply = tf.function(lambda *xs: sd.shared_matmul(xs, kernel, activation="relu"))

    outputs = apply(*xs)

    check(outputs, xs, kernel, (), ["relu"])
    types = [op.type for op in apply.get_concrete_function(*xs).graph.get_operations()]
    assert types.count("SharedDense>SharedMatMul") == (1 if path == "op" else 0)
    assert types.count("MatMul") == (0 if path == "op" else 3)


@pytest.mark.parametrize(("in_features", "units"), [(7, 5), (0, 5), (7, 0)])
def test_no_product_of_nothing(rng, in_features, units):
    """Of plain ops, which grappler could hand to oneDNN; nothing is the sum of nothing."""
    x, kernel, bias = draw(rng, 3, in_features), draw(rng, in_features, units), draw(rng, units)
    with sd.fallback():
        apply = tf.function(lambda x: sd.shared_matmul([x], kernel, bias)[0])
        concrete = apply.get_concrete_function(x)
    assert ("MatMul" in operations_of(concrete)) == (in_features * units > 0)
    np.testing.assert_allclose(apply(x), x @ kernel + bias, 1e-5, 1e-5)


def test_a_traced_function_keeps_its_path(rng):
    x, kernel = draw(rng, 3, 7), draw(rng, 7, 5)
    portable = tf.function(lambda x: sd.shared_matmul([x], kernel))
    with sd.fallback():
        portable(x)
        with sd.fallback():
            pass
        sd.shared_matmul([x], kernel)
        assert paths.last().name == "fallback"
    sd.shared_matmul([x], kernel)
    assert paths.last().name == "op"

    check(portable(x), [x], kernel)

    types = {op.type for op in portable.get_concrete_function(x).graph.get_operations()}
    assert "SharedDense>SharedMatMul" not in types


def test_a_long_sum_of_one_sign(path):
    # Rounding errors add up where nothing cancels, yet a dropped term must show.
    depth = 2048
    assert gamma(depth + 2, "float32") < 1 / depth
    x, kernel = np.full((2, depth), 0.1, "float32"), np.full((depth, 3), 0.3, "float32")

    check(sd.shared_matmul([x, x[:1]], kernel), [x, x[:1]], kernel)


def test_a_warning_points_at_the_call(monkeypatch):
    monkeypatch.setattr(paths, "_warned", set())
    monkeypatch.setitem(paths.OP_DTYPES, "CPU", ("float32",))
    x = tf.ones([2, 2], tf.bfloat16)

    with pytest.warns(RuntimeWarning) as warned:
        sd.shared_matmul([x], x)

    assert warned[0].filename == __file__


def test_many_callers_at_once(path):
    def caller(seed):
        rng = np.random.default_rng(seed)
        xs = [draw(rng, seed + 1, 67), draw(rng, 40, 67), draw(rng, 1, 67)]
        kernel, bias = draw(rng, 67, 29 + seed), draw(rng, 29 + seed)
        dys = [draw(rng, len(x), 29 + seed) for x in xs]
        exact = Oracle(xs, kernel, [bias], ["gelu"]).backward(dys)["dkernel"]
        w = tf.constant(kernel)
        for _ in range(15):
            with tf.GradientTape() as tape:
                tape.watch(w)
                outputs = sd.shared_matmul(xs, w, bias, "gelu")
            check(outputs, xs, kernel, [bias], ["gelu"])
            exact.check(tape.gradient(outputs, w, output_gradients=dys))

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(caller, seed) for seed in range(8)]
        for call in calls:
            call.result()
