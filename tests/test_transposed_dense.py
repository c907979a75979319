"""TransposedDense: another layer's kernel, transposed. Files: test_transposed_files.py.

Numbers are whole, so op, fallback and plain TensorFlow in float64 agree exactly.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from exact import assert_equal, set_whole_weights, whole

import shared_dense as sd
from shared_dense.runtime import paths

K, U = 6, 4
BOTH = [sd.SharedDense, keras.layers.Dense]


@pytest.fixture(autouse=True)
def _no_call_yet(monkeypatch):
    """`path` looks at the latest call: not at one of another test."""
    monkeypatch.setattr(paths, "_last", None)


def tied_pair(rng, cls=sd.SharedDense, encoder=None, **kwargs):
    encoder = encoder or cls(U, name="encoder")
    if not encoder.built:
        encoder.build((None, K))
    decoder = sd.TransposedDense(encoder, name="decoder", **kwargs)
    decoder.build((None, U))
    set_whole_weights(rng, decoder)
    return encoder, decoder


@pytest.mark.parametrize("use_bias", [True, False])
def test_values_and_gradients(path, run, rng, use_bias):
    encoder, decoder = tied_pair(rng, use_bias=use_bias, activation="relu")
    xs = {"a": tf.constant(whole(rng, 3, U)), "b": [tf.constant(whole(rng, 2, 4, U))]}
    dys = keras.tree.map_structure(lambda x: whole(rng, *x.shape[:-1], K), xs)
    weights = [encoder.kernel.value] + ([decoder.bias.value] if use_bias else [])

    def step(apply, xs, weights, dys):
        with tf.GradientTape() as tape:
            tape.watch([xs, weights])
            outputs = apply(xs)
        return outputs, tape.gradient(outputs, [xs, weights], dys)

    exact = keras.tree.map_structure(lambda x: tf.cast(x, "float64"), [xs, weights, dys])

    def plain(x):
        z = tf.tensordot(x, exact[1][0], [[-1], [1]])
        return tf.nn.relu(z + exact[1][1] if use_bias else z)

    wanted = step(lambda xs: keras.tree.map_structure(plain, xs), *exact)
    assert_equal(run(lambda xs: step(decoder, xs, weights, dys))(xs), wanted)


def test_one_op_that_reads_the_kernel_as_it_lies(path, rng):
    encoder, decoder = tied_pair(rng)

    @tf.function
    def step(*xs):
        with tf.GradientTape() as tape:
            outputs = decoder(list(xs))
        return tape.gradient(outputs, encoder.kernel.value)

    graph = step.get_concrete_function(whole(rng, 3, U), whole(rng, 5, U)).graph
    nodes = [node for node in graph.get_operations() if "SharedDense" in node.type]
    nodes = [node for node in nodes if node.type != "SharedDense>SharedMatMulOutput"]
    assert len(nodes) == (2 if path == "op" else 0)
    assert all(node.get_attr("transpose_kernel") for node in nodes)


@pytest.mark.parametrize("cls", BOTH)
def test_tied_autoencoder_trains_as_in_plain_tensorflow(path, rng, cls):
    """One kernel, whose gradient is the sum of both layers' parts."""
    encoder = cls(U, activation="relu", name="encoder")
    x = keras.Input((K,))
    model = keras.Model(x, sd.TransposedDense(encoder, name="decoder")(encoder(x)))
    kernel, hidden, bias = set_whole_weights(rng, model)
    assert [w.path for w in model.trainable_weights] == [
        "encoder/kernel", "encoder/bias", "decoder/bias",
    ]  # fmt: skip
    batch = whole(rng, 8, K)
    # The loss sums squares over 2^k: gradients and a step along them stay exact.
    model.compile(keras.optimizers.SGD(2.0**-6), lambda y, z: keras.ops.sum((y - z) ** 2) / 16)

    weights = [tf.Variable(w, dtype="float64") for w in (kernel, hidden, bias)]
    with tf.GradientTape() as tape:
        code = tf.nn.relu(batch.astype("float64") @ weights[0] + weights[1])
        off = code @ tf.transpose(weights[0]) + weights[2] - batch
        loss = tf.reduce_sum(off**2) / 16
    for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
        weight.assign_sub(gradient * 2.0**-6)
        assert np.any(gradient)
    assert model.train_on_batch(batch, batch) == loss
    assert_equal(model.get_weights(), [w.numpy() for w in weights])


def functional(encoder):
    x = keras.Input((K,))
    return keras.Model(x, sd.TransposedDense(encoder, activation="relu")(encoder(x)))


def test_a_copy_of_a_layer_alone(path, rng):
    _, decoder = tied_pair(rng)
    x = whole(rng, 3, U)
    with pytest.warns(UserWarning, match="a kernel of its own"):
        other = sd.TransposedDense.from_config(decoder.get_config())
        other(x)
    other.set_weights(decoder.get_weights())
    assert_equal(other(x), decoder(x))


def test_exported(path, rng, tmp_path):
    model = functional(sd.SharedDense(U))
    set_whole_weights(rng, model)
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    x = whole(rng, 3, K)
    assert_equal(loaded.serve(x), model(x))


def test_config(rng):
    _, decoder = tied_pair(
        rng,
        activation="relu",
        use_bias=False,
        bias_initializer="ones",
        bias_regularizer=keras.regularizers.L2(0.5),
        bias_constraint="non_neg",
        activity_regularizer="l1",
        dtype="mixed_bfloat16",
    )
    config = decoder.get_config()
    assert sd.TransposedDense.from_config(config).get_config() == config
    assert config["activity_regularizer"] and config["bias_constraint"] and config["kernel"] is None


def test_bias_and_outputs_are_regularized_and_constrained(path, rng):
    _, decoder = tied_pair(
        rng,
        bias_initializer="ones",
        bias_regularizer=keras.regularizers.L1(0.5),
        bias_constraint="non_neg",
        activity_regularizer=keras.regularizers.L1(2.0),
    )
    outputs = decoder([whole(rng, 2, U), whole(rng, 4, U)])
    losses = [np.abs(y).sum() * 2 / len(y) for y in outputs]
    bias = decoder.bias.numpy()
    assert (bias < 0).any()
    assert sorted(map(float, decoder.losses)) == sorted([0.5 * np.abs(bias).sum(), *losses])
    keras.optimizers.SGD(1.0).apply([tf.zeros(K)], [decoder.bias])
    assert_equal(decoder.bias.numpy(), np.maximum(bias, 0))


def test_each_layer_is_frozen_by_itself(path, rng):
    encoder = sd.SharedDense(U, name="encoder")
    model = functional(encoder)
    decoder = model.layers[-1]
    decoder.trainable = False
    assert [w.path for w in model.trainable_weights] == ["encoder/kernel", "encoder/bias"]
    decoder.trainable = True
    encoder.trainable = False
    assert model.trainable_weights == [decoder.bias]
    before = model.get_weights()
    model.compile("sgd", "mse")
    model.train_on_batch(x := whole(rng, 8, K), x + 1)
    kernel, hidden, bias = model.get_weights()
    assert_equal([kernel, hidden], before[:2])
    assert not np.array_equal(bias, before[2])


def test_masks_and_sparse_and_whole_number_inputs(path, rng):
    encoder, decoder = tied_pair(rng)
    x = whole(rng, 2, 3, U)
    masked = keras.layers.Masking()(x * [[[1], [1], [0]]])
    assert_equal(np.array(decoder(masked)._keras_mask), np.array([[True, True, False]] * 2))
    wanted = decoder(x[0])
    assert_equal(decoder(tf.sparse.from_dense(x[0])), wanted)
    assert_equal(decoder(x[0].astype("int32")), wanted)
    assert_equal(wanted.numpy(), x[0] @ encoder.kernel.numpy().T + decoder.bias.numpy())


def test_another_backend_takes_keras_own_code(rng, monkeypatch):
    _, decoder = tied_pair(rng, activation="relu")
    xs = [whole(rng, 2, U), whole(rng, 3, 2, U)]
    wanted = decoder(xs)
    monkeypatch.setattr(keras.backend, "backend", lambda: "another")
    monkeypatch.setattr(paths, "_last", None)
    assert_equal(decoder(xs), wanted)
    assert paths.last() is None


def test_a_kernel_with_lora(path, rng):
    encoder = sd.SharedDense(U, name="encoder")
    encoder.build((None, K))
    encoder.enable_lora(2, lora_alpha=4)
    encoder, decoder = tied_pair(rng, encoder=encoder)
    x = whole(rng, 3, U)
    kernel = encoder._kernel + 2 * encoder.lora_kernel_a @ encoder.lora_kernel_b
    assert_equal(decoder(x), x @ tf.transpose(kernel) + decoder.bias)
    with tf.GradientTape() as tape:
        y = decoder(x)
    sources = [encoder.lora_kernel_a.value, encoder.lora_kernel_b.value]
    assert all(np.any(gradient) for gradient in tape.gradient(y, sources))


def test_one_kernel_of_several(path, rng):
    table = {"query": {"kernel": "text"}, "image": {"kernel": "pixels"}}
    encoder = sd.SharedDense(U, branches=table, name="encoder")
    encoder.build({"query": (None, K), "image": (None, 3)})
    decoder = sd.TransposedDense(encoder, kernel="pixels")
    x = whole(rng, 2, U)
    decoder(x)
    set_whole_weights(rng, decoder)
    wanted = x @ encoder.kernels["pixels"].numpy().T + decoder.bias.numpy()
    assert_equal(decoder(x).numpy(), wanted)
    assert decoder.get_config()["kernel"] == "pixels"
    with pytest.raises(ValueError, match=r"\('text', 'pixels'\); say which one"):
        sd.TransposedDense(encoder)
    with pytest.raises(ValueError, match=r"'pixel' is none of .*did you mean 'pixels'"):
        sd.TransposedDense(encoder, kernel="pixel")
    late = sd.SharedDense(U, branches=table, name="late")
    late.build({"query": (None, K)})
    with pytest.raises(ValueError, match="'late', which it is tied to, has no kernel 'pixels' yet"):
        sd.TransposedDense(late, kernel="pixels")(x)


@pytest.mark.parametrize("tied_to", [None, "encoder", keras.layers.ReLU(), sd.SharedDense])
def test_only_some_layers_have_a_kernel_to_tie_to(tied_to):
    with pytest.raises(TypeError, match=r'TransposedDense layer "decoder": tied_to=.*SharedDense'):
        sd.TransposedDense(tied_to, name="decoder")


def test_errors_of_calls(path, rng):
    unbuilt = sd.TransposedDense(sd.SharedDense(U, name="encoder"), name="decoder")
    with pytest.raises(ValueError, match=r"\"decoder\": 'encoder', .* has no kernel yet; call"):
        unbuilt(np.ones((2, U)))
    _, decoder = tied_pair(rng)
    for inputs, pieces in (
        ([np.ones((2, U)), np.ones((2, K))], ["inputs[1]", "width 6", "'encoder' has width 4"]),
        ([np.ones((2, U)), None], ["inputs[1] is None"]),
        ({}, ["holds no tensor"]),
        (np.ones(U), ["rank >= 2"]),
    ):
        with pytest.raises(ValueError) as error:
            decoder(inputs)
        for piece in ['TransposedDense layer "decoder"', *pieces]:
            assert piece in str(error.value)
    with pytest.raises(TypeError, match=r"layer\(\[a, b\]\)"):
        decoder(np.ones((2, U)), np.ones((2, U)))


@pytest.mark.parametrize("dtype", ["float64", "float16", "mixed_bfloat16"])
def test_a_kernel_of_another_dtype(rng, dtype):
    encoder = sd.SharedDense(U, name="encoder", dtype=dtype)
    encoder, decoder = tied_pair(rng, encoder=encoder)
    set_whole_weights(rng, encoder)
    x = whole(rng, 3, U)
    kernel = encoder.kernel.numpy().astype("float64")
    assert_equal(decoder([x])[0].numpy(), x @ kernel.T + decoder.bias.numpy())


@pytest.mark.parametrize("transposed", [False, True])
def test_weights_are_read_once_for_all_inputs(path, transposed):
    layer = sd.SharedDense(4)
    if transposed:
        layer.build((None, 3))
        layer = sd.TransposedDense(tied_to=layer)
    xs = [tf.ones([2, 4 if transposed else 3])] * 5
    layer(xs)
    graph = tf.function(layer).get_concrete_function(xs).graph
    assert sum(op.type == "ReadVariableOp" for op in graph.get_operations()) == 2
