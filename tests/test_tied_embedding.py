"""TransposedDense tied to an Embedding: one table, looked up in and projected on."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from exact import assert_equal, whole

import shared_dense as sd

VOCABULARY, WIDTH = 9, 4


def tied_pair(rng, embedding=keras.layers.Embedding, **kwargs):
    table = embedding(VOCABULARY, WIDTH, name="tokens", **kwargs)
    decoder = sd.TransposedDense(table, name="logits", bias_initializer="normal")
    decoder.build((None, WIDTH))  # which builds the table as well
    for variable in (table._embeddings, decoder.bias):
        variable.assign(whole(rng, *variable.shape))
    return table, decoder


def language_model(table):
    ids = keras.Input((None,), dtype="int32")
    hidden = keras.layers.Dense(WIDTH, activation="tanh", name="hidden")(table(ids))
    return keras.Model(ids, sd.TransposedDense(table, name="logits")(hidden))


@pytest.mark.parametrize("embedding", [keras.layers.Embedding, keras.layers.ReversibleEmbedding])
def test_values_and_gradients(path, run, rng, embedding):
    """The gradient of the table is that of its rows and that of the product, added."""
    table, decoder = tied_pair(rng, embedding)
    ids = tf.constant([[1, 3, 3], [0, 8, 1]])
    dy = tf.constant(whole(rng, 2, 3, VOCABULARY))

    def step(ids):
        with tf.GradientTape() as tape:
            logits = decoder(table(ids))
        weights = [table.embeddings.value, decoder.bias.value]
        return logits, *map(tf.convert_to_tensor, tape.gradient(logits, weights, dy))

    logits, dtable, dbias = run(step)(ids)

    weights = np.array(table.embeddings, "float64")
    rows = weights[ids.numpy()]
    flat_dy = dy.numpy().reshape(-1, VOCABULARY).astype("float64")
    wanted = flat_dy.T @ rows.reshape(-1, WIDTH)
    np.add.at(wanted, ids.numpy().reshape(-1), flat_dy @ weights)
    assert_equal(logits.numpy(), rows @ weights.T + np.array(decoder.bias))
    assert_equal(dtable.numpy(), wanted)
    assert_equal(dbias.numpy(), flat_dy.sum(0))


def test_a_list_of_inputs_and_a_mask(path, rng):
    table, decoder = tied_pair(rng, mask_zero=True)
    ids = np.array([[1, 0, 2], [3, 0, 0]])
    a, b = decoder([table(ids), table(ids[:1])])
    assert_equal(a.numpy()[:1], b.numpy())
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(a._keras_mask), ids != 0)


def test_it_trains_as_in_plain_tensorflow(path, rng):
    table = keras.layers.Embedding(VOCABULARY, WIDTH, name="tokens")
    model = language_model(table)
    assert len(model.trainable_weights) == 4  # table, hidden's two, bias
    weights = [rng.normal(size=w.shape).astype("float32") for w in model.trainable_weights]
    for variable, value in zip(model.trainable_weights, weights, strict=True):
        variable.assign(value)
    names = [variable.path.split("/")[0] for variable in model.trainable_weights]
    plain = [tf.Variable(value, dtype="float64") for value in weights]
    ids = rng.integers(0, VOCABULARY, (5, 3)).astype("int32")
    model.compile(keras.optimizers.SGD(0.5), keras.losses.MeanSquaredError())
    target = rng.normal(size=(5, 3, VOCABULARY)).astype("float32")
    for _ in range(3):
        model.train_on_batch(ids, target)
        with tf.GradientTape() as tape:
            tokens, kernel, bias, out = (
                next(v for v, n in zip(plain, names, strict=True) if n == name and v.shape == shape)
                for name, shape in (
                    ("tokens", (VOCABULARY, WIDTH)),
                    ("hidden", (WIDTH, WIDTH)),
                    ("hidden", (WIDTH,)),
                    ("logits", (VOCABULARY,)),
                )
            )
            hidden = tf.tanh(tf.gather(tokens, ids) @ kernel + bias)
            logits = tf.tensordot(hidden, tokens, [[-1], [1]]) + out
            loss = tf.reduce_mean((logits - target) ** 2)
        for variable, gradient in zip(plain, tape.gradient(loss, plain), strict=True):
            variable.assign_sub(0.5 * tf.convert_to_tensor(gradient))
    for variable, wanted in zip(model.trainable_weights, plain, strict=True):
        np.testing.assert_allclose(variable.numpy(), wanted.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", ["file", "clone"])
def test_a_copy_has_one_table(path, rng, tmp_path, how):
    model = language_model(keras.layers.Embedding(VOCABULARY, WIDTH, name="tokens"))
    ids = rng.integers(0, VOCABULARY, (2, 3))
    if how == "file":
        model.save(tmp_path / "model.keras")
        copy = keras.models.load_model(tmp_path / "model.keras")
    else:
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())

    assert copy.get_layer("logits").tied_to is copy.get_layer("tokens")
    assert len(copy.weights) == len(model.weights) == 4
    np.testing.assert_array_equal(copy.predict(ids, verbose=0), model.predict(ids, verbose=0))
    copy.get_layer("tokens").embeddings.assign(np.zeros((VOCABULARY, WIDTH)))
    found = copy.predict(ids, verbose=0)
    np.testing.assert_array_equal(
        found, np.broadcast_to(copy.get_layer("logits").bias, found.shape)
    )


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float64"])
def test_other_dtypes(path, rng, dtype):
    table = keras.layers.Embedding(VOCABULARY, WIDTH, name="tokens", dtype=dtype)
    decoder = sd.TransposedDense(table, dtype=dtype)
    x = whole(rng, 3, WIDTH)
    found = decoder(x)
    table.embeddings.assign(whole(rng, VOCABULARY, WIDTH))
    found = decoder(x)
    assert keras.backend.standardize_dtype(found.dtype) == decoder.compute_dtype
    assert_equal(found.numpy(), x @ np.array(table.embeddings, "float64").T)


def test_inputs_of_another_width(path, rng):
    _, decoder = tied_pair(rng)
    with pytest.raises(ValueError, match=r"width 9 .*'tokens' has width 4"):
        decoder(np.ones((2, VOCABULARY)))
