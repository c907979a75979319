"""SharedDense called on structures of tensors: what comes back, and what is refused.

The oracle says how far a result may be from the truth; Dense reuse, with the same weights, is held
to the same bound. Models and training: test_layer_models.py.
"""

from __future__ import annotations

import collections
import contextlib
import os
import subprocess
import sys

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from oracle import Oracle

import shared_dense as sd
from shared_dense.runtime import paths

K, U = 7, 5
Pair = collections.namedtuple("Pair", "left right")
STRUCTURES = {
    "tensor": lambda a, b, c: b,
    "list": lambda a, b, c: [a, b, c],
    "tuple": lambda a, b, c: (a, b),
    "dict": lambda a, b, c: {"query": c, "item": a},
    "nested": lambda a, b, c: {"z": [a, (b,)], "y": c},
    "namedtuple": lambda a, b, c: Pair(c, a),
    "one": lambda a, b, c: [a],
}
# Of the activations that the op fuses, those that Keras has; the rest is applied by Keras.
FUSED = [None, "relu", "relu6", "leaky_relu", "elu", "sigmoid", "tanh", "silu", "gelu"]


@pytest.fixture(autouse=True)
def _no_call_yet(monkeypatch):
    """`path` looks at the latest call: not at one of another test."""
    monkeypatch.setattr(paths, "_last", None)


def layers_of_same_weights(rng, units=U, **kwargs):
    """A SharedDense, and the Dense that is called once per input."""
    layers = [cls(units, **kwargs) for cls in (sd.SharedDense, keras.layers.Dense)]
    for layer in layers:
        layer.build((None, K))
    weights = [rng.normal(size=w.shape) for w in layers[0].weights]
    for layer in layers:
        layer.set_weights(weights)
    return layers


def reuse(dense):
    return lambda structure: keras.tree.map_structure(dense, structure)


def arrays(rng, dtype="float32"):
    """Ranks 2, 3 and 4; 6, 18 and 12 rows."""
    return [rng.normal(size=(*rows, K)).astype(dtype) for rows in ((6,), (2, 9), (3, 1, 4))]


def oracle_of(layer, xs, activation=None):
    kernel, bias = layer.get_weights()
    return Oracle(xs, kernel, [bias], [activation or "linear"])


@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
@pytest.mark.parametrize("kind", STRUCTURES)
def test_values_and_gradients_are_those_of_dense(path, run, rng, kind, activation):
    shared, dense = layers_of_same_weights(rng, activation=activation)
    structure = STRUCTURES[kind](*arrays(rng))
    xs = keras.tree.flatten(structure)
    dys = [rng.normal(size=(*x.shape[:-1], U)).astype("float32") for x in xs]
    exact = oracle_of(shared, xs, activation)
    backward = exact.backward(dys)
    structure = keras.tree.map_structure(tf.constant, structure)

    for layer, apply in ((shared, shared), (dense, reuse(dense))):

        @run
        def step(structure, layer=layer, apply=apply):
            with tf.GradientTape() as tape:
                tape.watch(structure)
                result = apply(structure)
            sources = keras.tree.flatten(structure) + [w.value for w in layer.trainable_weights]
            grads = tape.gradient(keras.tree.flatten(result), sources, output_gradients=dys)
            return result, grads

        result, grads = step(structure)
        keras.tree.assert_same_structure(result, structure)
        assert type(result) is type(structure) or keras.ops.is_tensor(result)
        for i, (y, truth) in enumerate(
            zip(keras.tree.flatten(result), exact.forward(), strict=True)
        ):
            truth.check(y, f"{layer.name} outputs[{i}]")
        truths = [*backward["dx"], backward["dkernel"], *backward["dbias"]]
        for i, (grad, truth) in enumerate(zip(grads, truths, strict=True)):
            truth.check(grad, f"{layer.name} gradient {i}")


def test_one_op_forward_and_one_backward(path, rng):
    shared, _ = layers_of_same_weights(rng, activation="relu")

    @tf.function
    def step(*xs):
        with tf.GradientTape() as tape:
            results = shared(list(xs))
        return tape.gradient(results, [w.value for w in shared.trainable_weights])

    graph = step.get_concrete_function(*map(tf.constant, arrays(rng))).graph
    ours = sorted(node.type for node in graph.get_operations() if "SharedDense" in node.type)
    names = ["SharedDense>SharedMatMul", "SharedDense>SharedMatMulGrad"]
    names += ["SharedDense>SharedMatMulOutput"] * len(arrays(rng))
    assert ours == (names if path == "op" else [])


def test_weights_are_those_of_dense_in_its_order(rng):
    shared, dense = layers_of_same_weights(rng)
    assert [(w.name, w.shape) for w in shared.weights] == [(w.name, w.shape) for w in dense.weights]
    assert [w.name for w in shared.weights] == ["kernel", "bias"]
    assert isinstance(shared, keras.layers.Dense)


@pytest.mark.parametrize("activation", FUSED)
def test_keras_activations_mean_the_same(path, rng, activation):
    shared, dense = layers_of_same_weights(rng, activation=activation)
    xs = arrays(rng)
    for results in (shared(xs), reuse(dense)(xs)):
        for y, truth in zip(results, oracle_of(shared, xs, activation).forward(), strict=True):
            truth.check(y)


@pytest.mark.parametrize(
    "function",
    [keras.activations.softmax, keras.activations.hard_tanh, lambda z: z * z, keras.layers.PReLU()],
    ids=["softmax", "hard_tanh", "lambda", "layer"],
)
def test_any_other_activation_is_applied_to_each_output(path, rng, function):
    shared, _ = layers_of_same_weights(rng, activation=function)
    linear = sd.SharedDense(U)
    linear.build((None, K))
    linear.set_weights(shared.get_weights()[:2])
    xs = [rng.normal(size=(rows, K)).astype("float32") for rows in (3, 2)]
    for y, z in zip(shared(xs), linear(xs), strict=True):
        np.testing.assert_array_equal(y, function(z))


@pytest.mark.parametrize(
    "activation, loss, weights, label",
    [
        ("sigmoid", "binary_crossentropy", [[50.0]], [0.0]),
        (tf.nn.sigmoid, "binary_crossentropy", [[50.0]], [0.0]),
        ("softmax", "categorical_crossentropy", [[25.0, -25.0]], [0.0, 1.0]),
    ],
)
def test_cross_entropy_finds_the_logits(path, activation, loss, weights, label):
    # 50 units of logit: the probability rounds to 1, and a loss made from it is clipped near 16.
    batch = [np.ones((2, 1), "float32")] * 2
    for cls in (sd.SharedDense, keras.layers.Dense):
        layer = cls(len(label), activation=activation, use_bias=False)
        inputs = [keras.Input((1,)), keras.Input((1,))]
        model = keras.Model(
            inputs, layer(inputs) if cls is sd.SharedDense else reuse(layer)(inputs)
        )
        layer.set_weights([np.array(weights)])
        model.compile("sgd", loss)
        total, *each = model.test_on_batch(batch, [np.array([label] * 2)] * 2)
        assert (total, each) == (100, [50, 50])


def test_shapes_unknown_to_the_graph(path, rng):
    shared, _ = layers_of_same_weights(rng, activation="relu")
    xs = arrays(rng)
    specs = [tf.TensorSpec([None, K]), tf.TensorSpec([None, None, None]), tf.TensorSpec(None)]
    results = tf.function(lambda *xs: shared(list(xs)), input_signature=specs)(*xs)
    for y, truth in zip(results, oracle_of(shared, xs, "relu").forward(), strict=True):
        truth.check(y)


def test_parts_that_are_empty_stay_so(path, rng):
    x = arrays(rng)[0]
    for built in (False, True):
        shared, _ = layers_of_same_weights(rng)
        layer = shared if built else sd.SharedDense(U)
        result = layer({"query": x, "negatives": [], "others": ()})
        assert result["negatives"] == [] and result["others"] == ()
        oracle_of(layer, [x]).forward()[0].check(result["query"])


def test_one_instance_any_number_of_inputs(path, run, rng):
    shared, _ = layers_of_same_weights(rng, activation="tanh")
    xs = [rng.normal(size=(rows, K)).astype("float32") for rows in (1, 4, 0, 2, 70)]
    for count in (5, 1, 3, 2):
        results = run(lambda *xs: shared(list(xs)))(*map(tf.constant, xs[:count]))
        exact = oracle_of(shared, xs[:count], "tanh").forward()
        for y, truth in zip(results, exact, strict=True):
            truth.check(y, f"one of {count}")
    assert len(shared.weights) == 2


def test_float64(path, rng):
    shared, _ = layers_of_same_weights(rng, dtype="float64", activation="gelu")
    xs = arrays(rng, "float64")
    for y, truth in zip(shared(xs), oracle_of(shared, xs, "gelu").forward(), strict=True):
        truth.check(y)
        assert y.dtype == tf.float64


@pytest.mark.parametrize("forced", [False, True], ids=["free", "fallback"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision(rng, dtype, forced):
    shared, dense = layers_of_same_weights(rng, dtype=f"mixed_{dtype}")
    assert {w.dtype for w in shared.weights} == {"float32"}
    xs = arrays(rng)
    has_kernel = dtype in paths.OP_DTYPES["CPU"]
    told = contextlib.nullcontext()
    if not has_kernel and not forced:
        paths._warned.clear()
        told = pytest.warns(RuntimeWarning, match=f"no {dtype} kernel on CPU")
    with told, sd.fallback() if forced else contextlib.nullcontext():
        results = shared(xs)
    assert paths.last().name == ("op" if has_kernel and not forced else "fallback")
    assert sd.status().last_reason

    half = tf.as_dtype(dtype).as_numpy_dtype
    kernel, bias = [w.astype(half).astype("float64") for w in shared.get_weights()]
    u = float(ml_dtypes.finfo(half).eps) / 2
    terms = K + 2
    gamma = terms * u / (1 - terms * u)  # K products and a bias, each rounded to the half type
    for x, ours, keras_ in zip(xs, results, reuse(dense)(xs), strict=True):
        x = x.astype(half).astype("float64")
        bound = gamma * (np.abs(x) @ np.abs(kernel) + np.abs(bias))
        for y in (ours, keras_):
            assert y.dtype == dtype
            assert np.all(np.abs(np.float64(y) - (x @ kernel + bias)) <= bound)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
def test_integers_are_cast_as_dense_casts_them(path, run, rng, dtype):
    shared, dense = layers_of_same_weights(rng)
    whole, real = rng.integers(0, 9, (4, K)).astype(dtype), arrays(rng)[0]
    exact = oracle_of(shared, [whole.astype("float32"), real]).forward()
    for apply in (shared, reuse(dense)):
        for y, truth in zip(run(apply)([whole, real]), exact, strict=True):
            truth.check(y)
            assert y.dtype == tf.float32


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "complex64"])
def test_without_autocast_as_dense(rng, dtype):
    shared, dense = layers_of_same_weights(rng, autocast=False)
    x = tf.cast(arrays(rng)[0], dtype)
    ours, keras_ = shared([x])[0], dense(x)
    assert ours.dtype == keras_.dtype
    if dtype in ("float64", "complex64"):  # wider than the kernel: Keras's own code runs
        np.testing.assert_array_equal(ours, keras_)
    else:
        oracle_of(shared, [np.float32(x)]).forward()[0].check(ours)


def test_sparse_beside_dense(rng):
    shared, dense = layers_of_same_weights(rng, activation="relu")
    x = arrays(rng)[0]
    holes = np.where(rng.random(x.shape) < 0.7, 0, x).astype("float32")
    ours = shared({"holes": tf.sparse.from_dense(holes), "x": x})
    exact = oracle_of(shared, [holes, x], "relu").forward()
    for got in (ours["holes"], dense(tf.sparse.from_dense(holes))):
        exact[0].check(got)
    exact[1].check(ours["x"])


def test_arrays_and_variables(path, rng):
    shared, _ = layers_of_same_weights(rng)
    x = arrays(rng)[0]
    truth = oracle_of(shared, [x]).forward()[0]
    for y in shared([x, tf.Variable(x), keras.Variable(x)]) + [shared.call(x)]:
        truth.check(y)


def eager(*shape):
    return np.ones([2 if size is None else size for size in shape], "float32")


def symbolic(*shape):
    return keras.KerasTensor(shape)


RULE = "A kernel is shared among inputs of one width"
ERRORS = {
    "another width": (lambda t: [t(None, 3), t(None, 9, 5)], ["inputs[1]", "width 5", RULE]),
    "in a dict": (lambda t: {"a": t(None, 3), "b": [t(None, 5)]}, ["inputs['b'][0]", "width 5"]),
    "its own output": (lambda t: [t(None, 3), t(None, 4)], ["chaining", "units=4, width=3"]),
    "None": (lambda t: [t(None, 3), None], ["inputs[1] is None", "leave out"]),
    "rank 1": (lambda t: [t(None, 3), t(3)], ["inputs[1] has shape (3,)", "rank >= 2", "x[None]"]),
    "scalar": (lambda t: [t(None, 3), t()], ["inputs[1] has shape ()", "rank >= 2"]),
    "nothing": (lambda t: [], ["inputs is [], which holds no tensor"]),
    "no dict entry": (lambda t: {}, ["inputs is {}, which holds no tensor"]),
    "empty parts": (lambda t: {"a": [], "b": ()}, ["which holds no tensor"]),
    "all None": (lambda t: None, ["inputs is None; pass a tensor."]),
    "a list of None": (lambda t: [None], ["inputs[0] is None", "leave out"]),
}


@pytest.mark.parametrize("built", [False, True], ids=["unbuilt", "built"])
@pytest.mark.parametrize("make", [eager, symbolic])
@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_layer_and_the_rule(path, case, make, built):
    inputs, pieces = ERRORS[case]
    layer = sd.SharedDense(4, name="encoder")
    if built:
        layer.build((None, 3))
        pieces = pieces + (["this layer's kernel has width 3"] if RULE in pieces else [])
    elif RULE in pieces:
        pieces = pieces + ["inputs[0] has width 3"]
    with pytest.raises(ValueError) as error:
        layer(inputs(make))
    for piece in ['SharedDense layer "encoder"', *pieces]:
        assert piece in str(error.value)


def test_a_width_must_be_known_to_make_the_kernel(path):
    with pytest.raises(ValueError, match=r"last axis of inputs\[0\], shape \(None, None\)"):
        sd.SharedDense(4)([keras.Input((None,)), keras.Input((3,))])
    layer = sd.SharedDense(4, kernel_initializer="ones")
    layer.build((None, 3))  # from here on the width is the kernel's
    model = keras.Model(x := keras.Input((None,)), layer(x))
    np.testing.assert_array_equal(model(eager(2, 3)), np.full((2, 4), 3.0))


@pytest.mark.parametrize("units", [0, -3, 2.5, None, "64", [4]])
def test_units_must_be_a_positive_integer(units):
    with pytest.raises(ValueError, match="positive integer"):
        sd.SharedDense(units)


def test_plain_operations_compile(rng):
    shared, _ = layers_of_same_weights(rng, activation="silu")
    xs = arrays(rng)
    with sd.fallback():
        results = tf.function(lambda *xs: shared(list(xs)), jit_compile=True)(*xs)
    for y, truth in zip(results, oracle_of(shared, xs, "silu").forward(), strict=True):
        truth.check(y)


def test_another_backend_takes_keras_own_code(rng, monkeypatch):
    shared, dense = layers_of_same_weights(rng, activation="sigmoid")
    monkeypatch.setattr(keras.backend, "backend", lambda: "another")
    xs = {"a": arrays(rng)[0], "b": [arrays(rng)[1]]}
    ours, keras_ = shared(xs), reuse(dense)(xs)
    keras.tree.assert_same_structure(ours, xs)
    for y, wanted in zip(keras.tree.flatten(ours), keras.tree.flatten(keras_), strict=True):
        np.testing.assert_array_equal(y, wanted)
    assert paths.last() is None
    assert shared.supports_jit


ON_ANOTHER_BACKEND = """
import sys
import numpy as np
try:
    import keras
except ImportError as error:
    sys.exit(f"SKIP {error}")
import shared_dense as sd
layer = sd.SharedDense(2, activation="relu")
layer.build((None, 3))
layer.set_weights([np.array([[1., -2.], [3., -4.], [0., 1.]]), np.array([5., -6.])])
left, right = layer([np.array([[-1., 2., 1.]]), {"x": np.array([[[0., -1., 20.]]])}])
assert np.array_equal(left, [[10., 0.]]) and np.array_equal(right["x"], [[[2., 18.]]])
(y,) = sd.TransposedDense(layer)([np.array([[1., 0.], [2., 1.]])])
assert np.array_equal(y, [[1., 3., 0.], [0., 2., 1.]])
table = {"a": {"bias": None}, "b": {"trains_kernel": False, "activation": "relu"}}
layer = sd.SharedDense(1, kernel_initializer="ones", bias_initializer="ones", branches=table)
y = layer({"a": np.array([[1., -3.]]), "b": np.array([[1., 1.], [-4., 1.]])})
assert np.array_equal(y["a"], [[-2.]]) and np.array_equal(y["b"], [[3.], [0.]])
assert "tensorflow" not in sys.modules
"""


@pytest.mark.builds
@pytest.mark.parametrize("backend", ["numpy", "jax", "torch"])
def test_other_backends(backend):
    env = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", ON_ANOTHER_BACKEND], env=env, capture_output=True, text=True
    )
    if done.stderr.startswith("SKIP"):
        pytest.skip(f"Keras does not import on {backend}: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
