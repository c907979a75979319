"""TransposedDense tied to a quantized layer: it computes with the numbers of that layer's kernel.

What these are, the quantized layer itself says: its outputs for the unit vectors (for an Embedding,
its rows) are its kernel.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras.quantizers import AWQConfig, GPTQConfig, Int4QuantizationConfig, Int8QuantizationConfig
from oracle import gamma

import shared_dense as sd

K, U = 10, 7  # in_features; units, odd: two int4 numbers share a byte
DENSE = [sd.SharedDense, keras.layers.Dense]
ANY = [*DENSE, keras.layers.Embedding]
BLOCKS = Int4QuantizationConfig(block_size=4)
MODES = {
    "int8": ("int8", None),
    "int8 weights only": (None, Int8QuantizationConfig(activation_quantizer=None)),
    "int4": ("int4", Int4QuantizationConfig(block_size=-1)),
    "int4 blocks": (None, BLOCKS),
    "float8": ("float8", None),
}


def layer_of(cls):
    if cls is keras.layers.Embedding:
        return cls(K, U, name="encoder", embeddings_initializer="normal")
    return cls(U, name="encoder", use_bias=False)


def tied_pair(cls):
    encoder = layer_of(cls)
    encoder.build((None, K))
    decoder = sd.TransposedDense(encoder, name="decoder", bias_initializer="normal")
    decoder.build((None, U))
    return encoder, decoder


def kernel_of(encoder):
    if isinstance(encoder, keras.layers.Embedding):
        return np.array(encoder(np.arange(K)), "float64")
    return np.array(encoder(np.eye(K, dtype="float32")), "float64")


def check(decoder, encoder, x):
    kernel, bias = kernel_of(encoder), np.array(decoder.bias, "float64")
    # int8 rounds the unit vectors and scales them back: three roundings more of each weight.
    bound = gamma(U + 2 + 3, "float32") * (np.abs(x) @ np.abs(kernel.T) + np.abs(bias))
    wanted = x.astype("float64") @ kernel.T + bias
    for found in decoder({"a": x, "b": [x[:2]]})["a"], decoder(x):
        assert (np.abs(np.array(found, "float64") - wanted) <= bound).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cls", ANY)
def test_every_mode(path, rng, cls, mode):
    if cls is keras.layers.Embedding and mode in ("int8 weights only", "float8"):
        pytest.skip("Keras has no such Embedding")
    encoder, decoder = tied_pair(cls)
    x = rng.normal(size=(5, U)).astype("float32")
    floats = np.array(decoder(x))
    name, config = MODES[mode]

    encoder.quantize(name, config=config)

    check(decoder, encoder, x)
    assert np.abs(np.array(decoder(x)) - floats).max() > 1e-4, "the kernel is what it was"
    assert "made floats" in sd.status().last_reason


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("mode", ["gptq", "awq"])
@pytest.mark.parametrize("cls", DENSE)
def test_calibrated_layers(path, rng, cls, mode, bits):
    """Keras calibrates whole transformers; here numbers that it might have found are written in."""
    if (mode, bits) == ("awq", 8):
        pytest.skip("Keras's AWQ has 4 bits")
    encoder, decoder = tied_pair(cls)
    x = rng.normal(size=(5, U)).astype("float32")
    made = {"gptq": GPTQConfig, "awq": AWQConfig}[mode]
    encoder.quantize(mode, config=made(None, None, weight_bits=bits, group_size=4))
    check(decoder, encoder, x)

    for name in ("quantized_kernel", "kernel_zero"):
        variable = getattr(encoder, name)
        high = 2**bits if name == "kernel_zero" else 256
        variable.assign(rng.integers(0, high, variable.shape))
    encoder.kernel_scale.assign(rng.uniform(0.01, 0.1, encoder.kernel_scale.shape))
    encoder.g_idx.assign(np.arange(K) // 4)
    if mode == "awq":
        encoder.awq_scales.assign(rng.uniform(0.5, 2, K))
    setattr(encoder, f"is_{mode}_calibrated", True)

    check(decoder, encoder, x)


@pytest.mark.parametrize("mode", ["int8", "int4 blocks"])
@pytest.mark.parametrize("cls", ANY)
def test_lora(path, rng, cls, mode):
    encoder, decoder = tied_pair(cls)
    encoder.quantize(MODES[mode][0], config=MODES[mode][1])
    encoder.enable_lora(2, lora_alpha=3)
    for variable in encoder.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))

    check(decoder, encoder, rng.normal(size=(5, U)).astype("float32"))


def autoencoder(cls):
    encoder = layer_of(cls)
    x = keras.Input(() if cls is keras.layers.Embedding else (K,))
    hidden = keras.layers.Dense(U, name="hidden")(encoder(x))
    return keras.Model(x, sd.TransposedDense(encoder, name="decoder")(hidden))


@pytest.mark.parametrize("mode", ["int8", "int4", "int4 blocks", "float8"])
@pytest.mark.parametrize("cls", ANY)
def test_a_whole_model(path, rng, tmp_path, cls, mode):
    if cls is keras.layers.Embedding and mode == "float8":
        pytest.skip("Keras's Embedding has no float8")
    model = autoencoder(cls)
    x = np.arange(K) if cls is keras.layers.Embedding else rng.normal(size=(5, K))
    model.predict(x, verbose=0)

    model.quantize(MODES[mode][0], config=MODES[mode][1])

    encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder")
    assert encoder.quantization_mode and model.get_layer("hidden").quantization_mode
    found = model.predict(x, verbose=0)
    hidden = np.array(model.get_layer("hidden")(encoder(x)))
    check(decoder, encoder, hidden)
    np.testing.assert_allclose(found, decoder(hidden), rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("decoder").tied_to is loaded.get_layer("encoder")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), found)
    model.save_weights(tmp_path / "model.weights.h5")
    for variable in loaded.variables:
        variable.assign(np.zeros(variable.shape, str(variable.dtype)))
    loaded.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), found)


@pytest.mark.parametrize("mode", ["int8", "int4 blocks", "float8"])
@pytest.mark.parametrize("cls", DENSE)
def test_it_trains(path, rng, cls, mode):
    """Bias and inputs have gradients; so has a kernel that trains, that of float8."""
    import tensorflow as tf

    encoder, decoder = tied_pair(cls)
    encoder.quantize(MODES[mode][0], config=MODES[mode][1])
    x, dy = (tf.constant(rng.normal(size=(4, n)), "float32") for n in (U, K))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = decoder([x])[0]
    kernel = encoder._kernel.value
    dx, dbias, dkernel = tape.gradient(y, [x, decoder.bias.value, kernel], dy)

    wanted = dy.numpy().astype("float64") @ kernel_of(encoder)
    np.testing.assert_allclose(dx, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dbias, dy.numpy().sum(0), rtol=1e-4, atol=1e-5)
    if mode == "float8":
        np.testing.assert_allclose(dkernel, dy.numpy().T @ x.numpy(), rtol=1e-4, atol=1e-5)
    else:
        assert dkernel is None
