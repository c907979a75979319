"""Functions that XLA compiles: `jit_compile=True` gives the op's own values, and any gradient."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
import warm
from oracle import ACTIVATIONS, Exact, Oracle, roundoff

import shared_dense as sd
from shared_dense.runtime import loader, paths

RAGGED = [(3, 7), (1, 7), (0, 7), (2, 5, 7), (7,)]
DTYPES = ["float32", "float64", "bfloat16", "float16"]


@pytest.fixture(params=["core", "dot"])
def lowering(request, monkeypatch):
    """What XLA makes of the op: a call of the core, or products of its own, as on a GPU."""
    assert sd.status().xla == ""
    monkeypatch.setenv("SHARED_DENSE_XLA", request.param)
    return request.param


@pytest.fixture
def core(monkeypatch):
    monkeypatch.setenv("SHARED_DENSE_XLA", "core")


def draw(rng, *shape, dtype="float32"):
    return tf.cast(tf.constant(rng.uniform(-3, 3, shape)), dtype)


def compiled(function):
    return tf.function(function, jit_compile=True, autograph=False)


class Problem:
    """A call and its gradients, of random operands."""

    def __init__(self, rng, shapes, units, dtype="float32", biases=1, **arguments):
        size = shapes[0][-1]
        transposed = arguments.get("transpose_kernel", False)
        self.xs = [draw(rng, *shape, dtype=dtype) for shape in shapes]
        self.kernel = draw(rng, *((units, size) if transposed else (size, units)), dtype=dtype)
        self.biases = [draw(rng, units, dtype=dtype) for _ in range(biases)]
        self.dys = [draw(rng, *shape[:-1], units, dtype=dtype) for shape in shapes]
        self.arguments = arguments

    @property
    def sources(self):
        return [*self.xs, self.kernel, *self.biases]

    def bias(self, biases):
        return None if not biases else biases[0] if len(biases) == 1 else list(biases)

    def __call__(self, *sources):
        """Outputs, then gradients in all sources."""
        n = len(self.xs)
        with tf.GradientTape() as tape:
            tape.watch(sources)
            bias = self.bias(sources[n + 1 :])
            ys = sd.shared_matmul(list(sources[:n]), sources[n], bias, **self.arguments)
        return [*ys, *tape.gradient(ys, sources, output_gradients=self.dys)]

    def exact(self):
        arrays = [np.asarray(s) for s in self.sources]
        n = len(self.xs)
        oracle = Oracle(
            arrays[:n], arrays[n], arrays[n + 1 :], [self.arguments.get("activation", "linear")],
            self.arguments.get("transpose_kernel", False),
        )  # fmt: skip
        backward = oracle.backward([np.asarray(dy) for dy in self.dys])
        return [*oracle.forward(), *backward["dx"], backward["dkernel"], *backward["dbias"]]


def assert_same_bits(got, wanted):
    for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
        assert (a is None) == (b is None), f"result {i}"
        if a is not None:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=f"result {i}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_compiled_call_has_the_bits_of_any_other(core, rng, dtype, name):
    """The same core, at any order of loading: so is every value and gradient."""
    problem = Problem(rng, RAGGED, 11, dtype, activation=name)
    got = compiled(problem)(*problem.sources)
    assert paths.last() == ("op", f"{dtype} on CPU, compiled by XLA")
    assert_same_bits(got, problem(*problem.sources))


@pytest.mark.parametrize(
    ("biases", "arguments"),
    [
        pytest.param(0, {}, id="no bias"),
        pytest.param(3, {"activation": ["relu", "gelu", None]}, id="one of each per input"),
        pytest.param(1, {"transpose_kernel": True, "activation": "silu"}, id="transposed"),
        pytest.param(1, {"trains_kernel": [True, False, True]}, id="one input does not train"),
        pytest.param(1, {"trains_kernel": False, "activation": "tanh"}, id="none trains"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_argument_reaches_the_core(core, rng, dtype, biases, arguments):
    problem = Problem(rng, [(4, 33), (2, 3, 33), (1, 33)], 19, dtype, biases, **arguments)
    assert_same_bits(compiled(problem)(*problem.sources), problem(*problem.sources))


def test_biases_of_some_inputs(lowering, rng):
    """A bias of two inputs, an input without, and a bias whose inputs are all empty."""
    xs = [draw(rng, rows, 5) for rows in (2, 3, 4, 0)]
    kernel, shared, of_none = draw(rng, 5, 3), draw(rng, 3), draw(rng, 3)

    def call(*sources):
        with tf.GradientTape() as tape:
            tape.watch(sources)
            *xs, kernel, shared, of_none = sources
            ys = sd.shared_matmul(list(xs), kernel, [shared, None, shared, of_none])
        return [*ys, *tape.gradient(ys, sources)]

    sources = [*xs, kernel, shared, of_none]
    got, wanted = compiled(call)(*sources), call(*sources)
    np.testing.assert_array_equal(got[-2], [6, 6, 6])
    np.testing.assert_array_equal(got[-1], [0, 0, 0])
    assert len(got) == len(wanted)
    if lowering == "core":
        assert_same_bits(got, wanted)


@pytest.mark.parametrize("shapes", [RAGGED, [(5, 64), (3, 64)], [(1, 1)], [(2, 0), (3, 0)]])
@pytest.mark.parametrize("transposed", [False, True])
def test_shapes_of_every_kind(lowering, rng, shapes, transposed):
    problem = Problem(rng, shapes, 37, activation="relu6", transpose_kernel=transposed)
    for i, (got, exact) in enumerate(
        zip(compiled(problem)(*problem.sources), problem.exact(), strict=True)
    ):
        exact.check(got, f"result {i}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_xla_s_own_products(monkeypatch, rng, dtype, name):
    monkeypatch.setenv("SHARED_DENSE_XLA", "dot")
    problem = Problem(rng, RAGGED, 11, dtype, activation=name)
    got = compiled(problem)(*problem.sources)
    for i, (result, exact) in enumerate(zip(got, problem.exact(), strict=True)):
        exact.check(result, f"result {i}")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_xla_s_own_products_of_halves_are_rounded_once(monkeypatch, rng, dtype):
    """float32 sums of exact products, then one rounding to the type."""
    monkeypatch.setenv("SHARED_DENSE_XLA", "dot")
    problem = Problem(rng, [(3, 40), (2, 5, 40)], 11, dtype)
    got = compiled(problem)(*problem.sources)
    u = {"bfloat16": 2.0**-8, "float16": 2.0**-11}[dtype]
    wide = Problem(rng, [(3, 40), (2, 5, 40)], 11)
    for name in ("xs", "biases", "dys"):
        setattr(wide, name, [tf.cast(t, "float32") for t in getattr(problem, name)])
    wide.kernel = tf.cast(problem.kernel, "float32")
    for i, (result, exact) in enumerate(zip(got, wide.exact(), strict=True)):
        assert result.dtype == dtype
        rounded = exact.bound + u * (np.abs(exact.value) + exact.bound)
        Exact(exact.value, rounded).check(tf.cast(result, "float32"), f"result {i}")


def test_infinities_and_nans(lowering):
    xs = [tf.constant([[np.inf], [-np.inf], [np.nan], [-0.0], [1e30], [-1e30]])]
    kernel = tf.ones([1, 1])
    for name in ACTIVATIONS:

        def call(x, name=name):
            with tf.GradientTape() as tape:
                tape.watch(x)
                (y,) = sd.shared_matmul([x], kernel, activation=name)
            return y, tape.gradient(y, x)

        for got, wanted in zip(compiled(call)(*xs), call(*xs), strict=True):
            # The slope of gelu at infinity: its limit there, where the core multiplies inf by 0.
            got = np.where(np.isinf(xs[0]) & np.isnan(wanted) & (name == "gelu"), wanted, got)
            np.testing.assert_allclose(got, wanted, rtol=8 * roundoff("float32"), err_msg=name)


@pytest.mark.parametrize("name", ["linear", "gelu", "sigmoid"])
def test_second_order(lowering, rng, name):
    x, kernel = draw(rng, 3, 5, dtype="float64"), draw(rng, 5, 4, dtype="float64")

    def curvature(x, kernel, product):
        with tf.GradientTape() as outer:
            outer.watch([x, kernel])
            with tf.GradientTape() as inner:
                inner.watch([x, kernel])
                y = product(x, kernel) ** 2
            first = [g**2 for g in inner.gradient(y, [x, kernel])]
        return outer.gradient(first, [x, kernel])

    activation = {"linear": tf.identity, "gelu": tf.nn.gelu, "sigmoid": tf.sigmoid}[name]
    if name == "gelu":  # tf.nn.gelu's constants pass through float32
        activation = lambda z: 0.5 * z * tf.math.erfc(-np.sqrt(0.5) * z)  # noqa: E731
    got = compiled(lambda *s: curvature(*s, lambda x, w: sd.shared_matmul([x], w, None, name)[0]))
    wanted = curvature(x, kernel, lambda x, w: activation(x @ w))
    for a, b in zip(got(x, kernel), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11 * np.abs(b).max())


def test_one_trace_compiles_for_every_number_of_rows(core, rng):
    kernel = tf.Variable(draw(rng, 9, 6))
    traces = []

    @tf.function(
        jit_compile=True, autograph=False,
        input_signature=[tf.TensorSpec([None, 9]), tf.TensorSpec([None, None, 9])],
    )  # fmt: skip
    def call(a, b):
        traces.append(1)
        return sd.shared_matmul([a, b], kernel, activation="tanh")

    for rows in (1, 4, 3, 0, 4):
        xs = [draw(rng, rows, 9), draw(rng, 2, rows, 9)]
        assert_same_bits(call(*xs), sd.shared_matmul(xs, kernel, activation="tanh"))
    assert len(traces) == 1


def test_a_width_known_only_when_compiled(lowering, rng):
    @tf.function(
        jit_compile=True, autograph=False,
        input_signature=[tf.TensorSpec([None, None]), tf.TensorSpec([None, None])],
    )  # fmt: skip
    def call(x, kernel):
        return sd.shared_matmul([x], kernel)

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"inputs\[0\] has shape \[2,3\]"):
        call(draw(rng, 2, 3), draw(rng, 4, 5))


def test_compiler_ir_shows_what_runs(lowering, rng):
    x, kernel = draw(rng, 3, 5), draw(rng, 5, 4)
    call = compiled(lambda x, w: sd.shared_matmul([x, x + 1], w, None, "relu"))
    text = call.experimental_get_compiler_ir(x, kernel)(stage="hlo")
    assert ("shared_dense.forward" in text) == (lowering == "core")
    assert text.count(" dot(") == (1 if lowering == "dot" else 0), text


def test_plain_functions_are_compiled_as_part_of_others(core, rng):
    """What is traced for no compiler may become part of what is."""
    problem = Problem(rng, [(3, 5), (2, 5)], 4, activation="silu")
    inner = tf.function(problem, autograph=False)
    inner.get_concrete_function(*problem.sources)
    assert paths.last() == ("op", "float32 on CPU")
    got = compiled(lambda *sources: inner(*sources))(*problem.sources)
    assert_same_bits(got, problem(*problem.sources))


def test_a_saved_model_is_compiled(core, rng, tmp_path):
    kernel = draw(rng, 5, 4)
    module = tf.Module()
    module.call = tf.function(
        lambda x: sd.shared_matmul([x], kernel, activation="gelu"),
        input_signature=[tf.TensorSpec([None, 5])],
    )
    tf.saved_model.save(module, str(tmp_path))
    program = f"""
import numpy as np, tensorflow as tf
import shared_dense.load_op
loaded = tf.saved_model.load({str(tmp_path)!r})
np.save({str(tmp_path / "y.npy")!r}, tf.function(loaded.call, jit_compile=True)(tf.ones([3, 5]))[0])
"""
    subprocess.run([*warm.python(), "-c", program], check=True)
    got = [np.load(tmp_path / "y.npy")]
    assert_same_bits(got, [y.numpy() for y in module.call(tf.ones([3, 5]))])


def test_order_of_loading_does_not_matter(path):
    """Functions compiled before this library is imported take nothing away."""
    program = f"""
import tensorflow as tf
tf.function(lambda x: x + 1, jit_compile=True)(tf.ones([2]))
import shared_dense as sd
import contextlib
with sd.fallback() if {path == "fallback"} else contextlib.nullcontext():
    x = tf.ones([2, 3])
    y = tf.function(lambda x: sd.shared_matmul([x], tf.ones([3, 4])), jit_compile=True)(x)
assert sd.status().last_path == {path!r}, sd.status().last_reason
print(y[0].numpy().tolist() == [[3.0] * 4] * 2)
"""
    done = subprocess.run([*warm.python(), "-c", program], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr[-2000:]


@pytest.mark.parametrize(
    ("setting", "reason"),
    [("0", "SHARED_DENSE_XLA=0 asks"), ("gpu", "SHARED_DENSE_XLA is 'gpu'; it must be core, dot")],
)
def test_without_the_library_a_compiled_function_takes_the_fallback(
    monkeypatch, rng, setting, reason
):
    monkeypatch.setenv("SHARED_DENSE_XLA", setting)
    monkeypatch.setattr(loader, "load_xla", loader.load_xla.__wrapped__)
    monkeypatch.setattr(paths, "_warned", set())
    x, kernel = draw(rng, 3, 5), draw(rng, 5, 4)

    def call(x, kernel):
        return sd.shared_matmul([x], kernel)[0]

    with pytest.warns(RuntimeWarning, match=f"XLA compiles this function, and {reason}"):
        got = compiled(call)(x, kernel)
    assert paths.last().name == "fallback"
    Oracle([x.numpy()], kernel.numpy()).forward()[0].check(got)
    assert reason in sd.status().xla
    tf.function(call)(x, kernel)
    assert paths.last().name == "op"


def test_calls_from_many_threads(core, rng):
    problem = Problem(rng, [(64, 128), (32, 128)], 256, activation="relu")
    call = compiled(problem)
    wanted = call(*problem.sources)
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(lambda _: call(*problem.sources), range(40)):
            assert_same_bits(got, wanted)


def test_inside_compiled_control_flow(lowering, rng):
    x, kernel = draw(rng, 3, 5), draw(rng, 5, 5) / 9

    def call(x, kernel, product):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = tf.cond(tf.reduce_sum(x) > 1e9, lambda: x, lambda: product(x, kernel))
            for _ in tf.range(3):
                y = product(y, kernel)
        return y, *tape.gradient(y, [x, kernel])

    def ours(x, kernel):
        return sd.shared_matmul([x], kernel, None, "tanh")[0]

    def theirs(x, kernel):
        return tf.tanh(x @ kernel)

    x, kernel = tf.cast(x, "float64"), tf.cast(kernel, "float64")
    got = tf.function(lambda *s: call(*s, ours), jit_compile=True)(x, kernel)
    wanted = tf.function(lambda *s: call(*s, theirs))(x, kernel)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
