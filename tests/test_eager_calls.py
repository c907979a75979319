"""Calls outside of graphs: the op checks its operands; Keras is passed by if it adds nothing."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import shared_dense as sd

K, U = 5, 3


def by_keras(layer, inputs):
    """The call as Keras makes it, whatever the layer would do."""
    return keras.layers.Layer.__call__(layer, inputs)


@pytest.fixture
def xs(rng):
    return [tf.constant(rng.standard_normal((rows, K)), tf.float32) for rows in (4, 1, 0, 2)]


@pytest.fixture(params=["shared", "transposed", "branches"])
def layer(request):
    if request.param == "shared":
        made = sd.SharedDense(U, activation="gelu", bias_initializer="normal")
    elif request.param == "branches":
        made = sd.SharedDense(U, branches={"a": {"bias": "own"}, "b": {"activation": "relu"}})
    else:
        dense = keras.layers.Dense(K)
        dense.build((None, U))
        made = sd.TransposedDense(dense, activation="tanh")
    return made


def inputs_of(layer, xs):
    return {"a": xs[0], "b": xs[3]} if getattr(layer, "branches", None) else xs


@pytest.fixture
def counted(monkeypatch):
    """How often Keras's own call has run."""
    calls = []
    original = keras.layers.Layer.__call__

    def call(self, *args, **kwargs):
        calls.append(type(self).__name__)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(keras.layers.Layer, "__call__", call)
    return calls


def test_keras_is_passed_by_and_the_bits_are_the_same(path, layer, xs, counted):
    inputs = inputs_of(layer, xs)
    first = layer(inputs)  # which builds
    counted.clear()
    with tf.GradientTape() as tape:
        found = layer(inputs)
        loss = tf.add_n([tf.reduce_sum(y**2) for y in keras.tree.flatten(found)])
    gradients = tape.gradient(loss, layer.trainable_variables)
    assert counted == []
    with tf.GradientTape() as tape:
        wanted = by_keras(layer, inputs)
        loss = tf.add_n([tf.reduce_sum(y**2) for y in keras.tree.flatten(wanted)])
    assert counted
    pairs = [(first, found), (found, wanted)]
    pairs.append((gradients, tape.gradient(loss, layer.trainable_variables)))
    for a, b in pairs:
        keras.tree.map_structure(np.testing.assert_array_equal, a, b)
    assert sd.status().layers[layer.name].startswith(path)


def test_gradients_of_what_is_watched_alone(path, xs):
    layer = sd.SharedDense(U)
    layer(xs)
    variable = layer.kernel.value
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variable)
        loss = tf.add_n([tf.reduce_sum(y) for y in layer(xs)])
    found, none = tape.gradient(loss, [variable, layer.bias.value])
    np.testing.assert_allclose(found, np.tile(sum(np.sum(x, 0) for x in xs)[:, None], U), atol=1e-5)
    assert none is None


def test_masks_go_through(path, xs):
    layer = sd.SharedDense(U)
    table = keras.layers.Embedding(7, K, mask_zero=True)
    inputs = [table(tf.constant([[1, 2, 0]])), tf.ones([1, 2, K])]
    for _ in range(2):
        masked, plain = layer(inputs)
        np.testing.assert_array_equal(masked._keras_mask, [[True, True, False]])
        assert getattr(plain, "_keras_mask", None) is None


def test_losses_are_recorded(path, xs):
    layer = sd.SharedDense(U, activity_regularizer=keras.regularizers.L2(0.5))
    for inputs in (xs[:2], xs[:2], [xs[3], xs[0]]):
        ys = layer(inputs)
        wanted = [0.5 * np.sum(np.square(y)) / len(y) for y in ys]
        np.testing.assert_allclose(np.sum(layer.losses), np.sum(wanted), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float64"])
def test_inputs_are_cast_as_the_policy_says(path, xs, dtype):
    layer = sd.SharedDense(U, dtype=dtype)
    for _ in range(2):
        assert {y.dtype.name for y in layer(xs)} == {layer.compute_dtype}


def test_inside_a_layer_of_another_dtype_weights_are_cast_as_keras_does(path, xs):
    class Outer(keras.layers.Layer):
        def __init__(self):
            super().__init__(dtype="mixed_bfloat16")
            self.inner = sd.SharedDense(U, dtype="float32")

        def call(self, x):
            return self.inner([x])

    outer = Outer()
    for _ in range(2):
        (y,) = outer(xs[0])
        # Outside: the inner layer casts the input up, as the policy of its own says.
        x = tf.cast(tf.cast(xs[0], tf.bfloat16), tf.float32)
        assert y.dtype == tf.float32
        np.testing.assert_allclose(y, x @ outer.inner.kernel.value, atol=1e-5)


@pytest.mark.parametrize("kind", ["instance", "subclass"])
def test_another_call_is_taken(path, xs, kind):
    class Doubled(sd.SharedDense):
        def call(self, inputs, training=None):
            return [2 * y for y in super().call(inputs)]

    layer = Doubled(U) if kind == "subclass" else sd.SharedDense(U)
    layer(xs)
    if kind == "instance":
        once = layer.call
        layer.call = lambda inputs: [2 * y for y in once(inputs)]
    for y, x in zip(layer(xs), xs, strict=True):
        np.testing.assert_allclose(y, 2 * (x @ layer.kernel.value), atol=1e-5)


def test_a_subclass_that_makes_masks_is_asked_for_them(path, xs):
    class Masking(sd.SharedDense):
        def compute_mask(self, inputs, previous_mask=None):
            return [tf.ones([len(x)], tf.bool) for x in inputs]

    layer = Masking(U)
    for _ in range(2):
        assert [y._keras_mask.shape for y in layer(xs)] == [[4], [1], [0], [2]]


def test_errors_are_keras_own(path, layer, xs):
    """Those of a call that Keras makes, also where the op or the layer found them first."""
    inputs = inputs_of(layer, xs)
    layer(inputs)
    wrong = keras.tree.map_structure(lambda x: tf.ones([2, 17]), inputs)
    with pytest.raises(ValueError, match=r"(?s)Exception encountered when .*has width 17"):
        layer(wrong)


@pytest.mark.parametrize(
    "kernel, words",
    [
        (tf.ones([K + 1, U]), "inputs[0] has shape (4, 5), but the kernel (6, 3)"),
        (tf.ones([K, U, 1]), "kernel must have rank 2"),
        (tf.ones([K, U], tf.float64), "inputs[0] has dtype float32, but the kernel has float64"),
        (tf.ones([K, U], tf.int32), "kernel has dtype int32; pass a floating-point tensor"),
    ],
)
def test_what_the_op_refuses_is_told_in_words_of_the_function(path, xs, kernel, words):
    before = sd.status().last_path
    with pytest.raises((TypeError, ValueError)) as error:
        sd.shared_matmul(xs, kernel)
    assert words in str(error.value)
    assert sd.status().last_path == before  # a call that failed took none


def test_variables_are_read_by_the_op(path, xs):
    kernel, bias = tf.Variable(tf.ones([K, U])), tf.Variable(tf.ones([U]))
    for y, x in zip(sd.shared_matmul(xs, kernel, bias), xs, strict=True):
        np.testing.assert_allclose(y, x @ np.ones((K, U)) + 1, atol=1e-5)
    with tf.GradientTape() as tape:
        loss = tf.add_n([tf.reduce_sum(y) for y in sd.shared_matmul(xs, kernel, bias)])
    found = tape.gradient(loss, [kernel, bias])
    np.testing.assert_allclose(found[1], [7.0] * U, atol=1e-5)
    np.testing.assert_allclose(found[0][:, 0], sum(np.sum(x, 0) for x in xs), atol=1e-5)


class Scale:
    """Of two that are equal, each is itself."""

    def __init__(self, by):
        self.by = by

    def __call__(self, z):
        return z * self.by

    def __eq__(self, other):
        return isinstance(other, Scale)

    def __hash__(self):
        return 7


def test_functions_that_are_equal_are_not_one(path, xs):
    w = tf.ones([K, U])
    first, second = (sd.shared_matmul(xs, w, activation=Scale(by))[0] for by in (1.0, 10.0))
    np.testing.assert_array_equal(10 * first.numpy(), second.numpy())


def test_a_function_lives_as_long_as_its_user_wants(path, xs):
    def doubled(z):
        return 2 * z

    sd.shared_matmul(xs, tf.ones([K, U]), activation=doubled)
    gone = weakref.ref(doubled)
    del doubled
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("odd", [0, 1, np.True_])
def test_a_call_that_fails_spoils_no_other(path, xs, odd):
    w = tf.ones([K, K])
    for transpose_kernel in (odd, bool(odd)):
        try:
            sd.shared_matmul(xs, w, transpose_kernel=transpose_kernel)
        except TypeError:
            assert transpose_kernel is odd
