"""TransposedDense: another layer's kernel transposed, and a tie that holds.

Numbers are whole, so op, fallback and plain TensorFlow in float64 agree exactly.
"""

from __future__ import annotations

import copy
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from exact import assert_equal, set_whole_weights, whole

import shared_dense as sd
from shared_dense import paths

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


def sequential(encoder):
    return keras.Sequential([keras.Input((K,)), encoder, sd.TransposedDense(encoder)])


def sequential_without_input(encoder):
    model = keras.Sequential([encoder, sd.TransposedDense(encoder)])
    model(np.ones((1, K)))
    return model


def models_in_a_model(encoder):
    x, z = keras.Input((K,)), keras.Input((U,))
    halves = keras.Model(x, encoder(x)), keras.Model(z, sd.TransposedDense(encoder)(z))
    return keras.Model(x, halves[1](halves[0](x)))


def side_by_side(encoder):
    # In files the decoder comes first, by its name and its place.
    x, z = keras.Input((K,)), keras.Input((U,))
    code = encoder(x)
    return keras.Model([z, x], [sd.TransposedDense(encoder, name="a")(z), code])


@keras.saving.register_keras_serializable(package="test_transposed_dense")
class Subclassed(keras.Model):
    def __init__(self, encoder, decoder=None, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder or sd.TransposedDense(encoder)

    def call(self, inputs):
        return self.decoder(self.encoder(inputs))

    def get_config(self):
        layers = {"encoder": self.encoder, "decoder": self.decoder}
        layers = {k: keras.saving.serialize_keras_object(v) for k, v in layers.items()}
        return {**super().get_config(), **layers}

    @classmethod
    def from_config(cls, config):
        layers = {
            k: keras.saving.deserialize_keras_object(config[k]) for k in ("decoder", "encoder")
        }
        return cls(**{**config, **layers})


def subclassed(encoder):
    model = Subclassed(encoder)
    model(np.ones((1, K)))
    return model


MODELS = [
    functional,
    sequential,
    sequential_without_input,
    models_in_a_model,
    side_by_side,
    subclassed,
]
# Copies made of configs find the other layer only where their inputs come through it.
FOUND_AGAIN = [functional, sequential, sequential_without_input]


def all_layers(model):
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from all_layers(layer)


def check_tie(model, original, rng):
    """Same numbers, one kernel, and it is the encoder's that the decoder uses."""
    layers = {type(layer): layer for layer in all_layers(model)}
    (decoder,) = (layer for layer in layers.values() if isinstance(layer, sd.TransposedDense))
    (encoder,) = (layer for layer in layers.values() if isinstance(layer, keras.layers.Dense))
    assert decoder.tied_to is encoder
    assert len(model.weights) == len(model.trainable_weights) == 3
    two = len(getattr(original, "outputs", ())) == 2
    x = [whole(rng, 3, U), whole(rng, 3, K)] if two else whole(rng, 3, K)
    assert_equal(model(x), original(x))
    encoder.kernel.assign(encoder.kernel + 1)
    original_encoder = decoder_of(original).tied_to
    original_encoder.kernel.assign(original_encoder.kernel + 1)
    assert_equal(model(x), original(x))


def decoder_of(model):
    return next(layer for layer in all_layers(model) if isinstance(layer, sd.TransposedDense))


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("how", ["keras", "weights", "deepcopy"])
def test_files_keep_the_tie(rng, tmp_path, how, make, cls):
    model = make(cls(U, name="encoder"))
    set_whole_weights(rng, model)
    if how == "keras":
        model.save(tmp_path / "model.keras")
        other = keras.models.load_model(tmp_path / "model.keras")
    elif how == "deepcopy":
        other = copy.deepcopy(model)
    else:
        model.save_weights(tmp_path / "model.weights.h5")
        other = make(cls(U, name="encoder"))
        other.load_weights(tmp_path / "model.weights.h5")
    check_tie(other, model, rng)


@pytest.mark.filterwarnings("ignore:You are saving")
@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("make", FOUND_AGAIN)
@pytest.mark.parametrize("how", ["h5", "json", "clone", "config"])
def test_copies_of_configs_are_tied_again(rng, tmp_path, how, make, cls):
    model = make(cls(U, name="encoder"))
    set_whole_weights(rng, model)
    if how == "h5":
        model.save(tmp_path / "model.h5")
        other = keras.models.load_model(tmp_path / "model.h5", compile=False)
    else:
        other = {
            "json": lambda: keras.models.model_from_json(model.to_json()),
            "clone": lambda: keras.models.clone_model(model),
            "config": lambda: type(model).from_config(model.get_config()),
        }[how]()
        other.set_weights(model.get_weights())
    check_tie(other, model, rng)


@pytest.mark.parametrize("make", [models_in_a_model, side_by_side, subclassed])
def test_a_copy_that_cannot_be_tied_again_says_so(make):
    model = make(sd.SharedDense(U, name="encoder"))
    with pytest.warns(UserWarning, match="no layer 'encoder' that it could be tied to again"):
        other = keras.models.clone_model(model)
        if make is subclassed:
            other(np.ones((1, K)))
    assert len(other.weights) == 5


def test_a_copy_of_a_layer_alone(path, rng):
    _, decoder = tied_pair(rng)
    x = whole(rng, 3, U)
    with pytest.warns(UserWarning, match="a kernel of its own"):
        other = sd.TransposedDense.from_config(decoder.get_config())
        other(x)
    other.set_weights(decoder.get_weights())
    assert_equal(other(x), decoder(x))


ELSEWHERE = """
import sys
import numpy as np, keras, shared_dense
model = keras.models.load_model(f"{sys.argv[1]}/model.keras")
assert model.layers[-1].tied_to is model.layers[-2]
np.save(f"{sys.argv[1]}/y.npy", model(np.load(f"{sys.argv[1]}/x.npy")))
"""


def test_loaded_by_a_fresh_process(rng, tmp_path):
    model = functional(sd.SharedDense(U))
    set_whole_weights(rng, model)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x := whole(rng, 3, K))
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_equal(np.load(tmp_path / "y.npy"), model(x).numpy())


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
    other = sd.TransposedDense.from_config(config).get_config()
    for c in (config, other):
        del c["tied_to"]["shared_object_id"]
    assert other == config
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
def test_only_dense_layers_have_a_kernel_to_tie_to(tied_to):
    with pytest.raises(TypeError, match=r'TransposedDense layer "decoder": tied_to=.*SharedDense'):
        sd.TransposedDense(tied_to, name="decoder")


def test_errors_of_calls(path, rng):
    unbuilt = sd.TransposedDense(sd.SharedDense(U, name="encoder"), name="decoder")
    with pytest.raises(ValueError, match=r"\"decoder\": 'encoder', .* has no kernel yet; call"):
        unbuilt(np.ones((2, U)))
    encoder, decoder = tied_pair(rng)
    for inputs, pieces in (
        ([np.ones((2, U)), np.ones((2, K))], ["inputs[1]", "width 6", "'encoder' has width 4"]),
        ([np.ones((2, U)), None], ["inputs[1] is None"]),
        ({}, ["empty"]),
        (np.ones(U), ["rank >= 2"]),
    ):
        with pytest.raises(ValueError) as error:
            decoder(inputs)
        for piece in ['TransposedDense layer "decoder"', *pieces]:
            assert piece in str(error.value)
    with pytest.raises(TypeError, match=r"layer\(\[a, b\]\)"):
        decoder(np.ones((2, U)), np.ones((2, U)))
    encoder.quantize("int8")
    with pytest.raises(ValueError, match=r"'encoder', which it is tied to, is quantized \(int8\)"):
        decoder(np.ones((2, U)))
