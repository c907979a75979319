"""Models made with SharedDense: training, masks, saving and all else that Keras does to a layer."""

from __future__ import annotations

import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from oracle import Exact, Oracle, gamma, roundoff

import shared_dense as sd
from shared_dense.runtime import paths

K, U = 4, 3


@pytest.fixture(autouse=True)
def _no_call_yet(monkeypatch):
    """`path` looks at the latest call: not at one of another test."""
    monkeypatch.setattr(paths, "_last", None)


def apply(layer, structure):
    """One call of a SharedDense, or one of a Dense per input."""
    if isinstance(layer, sd.SharedDense):
        return layer(structure)
    return keras.tree.map_structure(layer, structure)


def functional(layer, structure):
    inputs = keras.tree.map_structure(lambda x: keras.Input(x.shape[1:]), structure)
    return keras.Model(inputs, apply(layer, inputs))


class Subclassed(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.encoder = layer

    def call(self, inputs):
        return apply(self.encoder, inputs)


def subclassed(layer, structure):
    return Subclassed(layer)


def sequential(layer, structure):
    return keras.Sequential([layer])


def batches(rng, kind="list"):
    """Inputs of a model: as many examples in each, of one row or of two."""
    a, b = (rng.normal(size=shape).astype("float32") for shape in ((8, K), (8, 2, K)))
    return {
        "tensor": b,
        "list": [a, b],
        "tuple": (a, b),
        "dict": {"query": b, "item": a},
        "nested": {"pair": [a, b], "one": (a,)},
    }[kind]


def check(results, layer, structure, activation="linear"):
    exact = Oracle(keras.tree.flatten(structure), *split(layer), [activation]).forward()
    for y, truth in zip(keras.tree.flatten(results), exact, strict=True):
        truth.check(y)


def split(layer):
    kernel, bias = layer.get_weights()
    return kernel, [bias]


def draw_weights(rng, layer):
    layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])


@pytest.mark.parametrize(
    "make, kind",
    [(functional, "list"), (functional, "nested"), (subclassed, "dict"), (sequential, "tensor")],
)
def test_models(path, rng, make, kind):
    structure = batches(rng, kind)
    for cls in (sd.SharedDense, keras.layers.Dense):
        layer = cls(U, activation="relu")
        model = make(layer, structure)
        model(structure)
        draw_weights(rng, layer)
        check(model.predict(structure, verbose=0), layer, structure, "relu")
        assert len(model.weights) == 2


def descend(x, targets, weights, epochs):
    """Gradient descent on the sum of two mean squared errors: exact losses, and their bounds.

    The loss is a convex quadratic, and the step is 1/L for L its largest curvature, so that a step
    brings no two points further apart: rounding errors of the parameters add up, none grows. Those
    of one gradient are those of its sums (`gamma` of their length; 16 roundings for the rest).
    """
    rows = [np.c_[a.reshape(-1, K), np.ones(a.size // K)].astype("float64") for a in x]
    targets = [t.reshape(-1, U).astype("float64") for t in targets]
    theta = np.vstack(weights).astype("float64")
    curvature = sum(2 / t.size * a.T @ a for a, t in zip(rows, targets, strict=True))
    largest = np.linalg.eigvalsh(curvature)[-1]
    rate = float(np.float32(1 / largest))
    relative = gamma(sum(map(len, rows)) + K + U + 16, "float32")
    off, losses = 0.0, []
    for _ in range(epochs):
        loss = noise = 0.0
        gradient, rounding = np.zeros_like(theta), np.zeros_like(theta)
        for a, t in zip(rows, targets, strict=True):
            residual = a @ theta - t
            size = np.abs(a) @ np.abs(theta) + np.abs(t)
            loss += np.mean(residual**2)
            noise += relative * np.mean(size**2) * 2
            gradient += 2 / t.size * a.T @ residual
            rounding += relative * 2 / t.size * np.abs(a).T @ size
        steepness = np.linalg.norm(gradient)
        bound = steepness * off + largest * off**2 / 2 + noise
        losses.append(Exact(np.array(loss), np.array(bound)))
        off += rate * np.linalg.norm(rounding) + 4 * roundoff("float32") * (
            np.linalg.norm(theta) + rate * steepness
        )
        theta = theta - rate * gradient
    return rate, losses


def test_fit_is_that_of_dense_reuse(path, rng):
    x = batches(rng)
    targets = [rng.normal(size=(*a.shape[:-1], U)).astype("float32") for a in x]
    weights = [rng.normal(size=size).astype("float32") for size in ((K, U), (U,))]
    rate, exact = descend(x, targets, weights, epochs=6)
    for cls in (sd.SharedDense, keras.layers.Dense):
        layer = cls(U)
        model = functional(layer, x)
        layer.set_weights(weights)
        model.compile(keras.optimizers.SGD(rate), ["mse", "mse"])
        history = model.fit(x, targets, batch_size=8, epochs=6, shuffle=False, verbose=0)
        for epoch, (loss, truth) in enumerate(zip(history.history["loss"], exact, strict=True)):
            truth.check(loss, f"{layer.name}, epoch {epoch}: loss")
    # The losses move by far more than the bound, which thus tells training from standing still.
    assert all(a.value - b.value > 50 * b.bound for a, b in itertools.pairwise(exact))


def test_masks_pass_through_per_tensor(path, rng):
    ids = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
    x, y = (rng.normal(size=(2, 4, K)).astype("float32") for _ in "xy")
    x[0, 1] = x[1, 3] = 0
    embedding, layer = keras.layers.Embedding(5, K, mask_zero=True), sd.SharedDense(U)
    inputs = [keras.Input((4,)), keras.Input((4, K)), keras.Input((4, K))]
    masked = [embedding(inputs[0]), keras.layers.Masking()(inputs[1]), inputs[2]]
    # Averages over what the mask leaves: it must arrive behind the layer, and not be mixed up.
    model = keras.Model(inputs, [keras.layers.GlobalAveragePooling1D()(t) for t in layer(masked)])
    draw_weights(rng, layer)
    results = model.predict([ids, x, y], verbose=0)
    embedded = embedding.get_weights()[0][ids]
    kept = [ids != 0, (x != 0).any(-1), np.ones((2, 4), bool)]
    exact = Oracle([embedded, x, y], *split(layer)).forward()
    for result, truth, keep in zip(results, exact, kept, strict=True):
        keep = keep[..., None]
        mean, size, slack = (
            (part * keep).sum(1) / keep.sum(1)
            for part in (truth.value, np.abs(truth.value), truth.bound)
        )
        Exact(mean, slack + gamma(8, "float32") * (size + slack)).check(result)


def test_config(rng):
    layer = sd.SharedDense(
        U,
        activation="gelu",
        use_bias=False,
        kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L2(0.5),
        kernel_constraint="non_neg",
        activity_regularizer="l1",
        dtype="mixed_bfloat16",
        trainable=False,
        name="encoder",
    )
    config = layer.get_config()
    assert json.loads(json.dumps(config)) == config
    assert sd.SharedDense.from_config(config).get_config() == config
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is sd.SharedDense
    assert again.get_config() == config
    assert keras.layers.Dense.from_config(config).get_config() == config


def test_clone_and_summary(path, rng):
    x = batches(rng)
    model = functional(sd.SharedDense(U, name="encoder"), x)
    clone = keras.models.clone_model(model)
    assert clone.get_layer("encoder") is not model.get_layer("encoder")
    clone.set_weights(model.get_weights())
    for a, b in zip(clone.predict(x, verbose=0), model.predict(x, verbose=0), strict=True):
        np.testing.assert_array_equal(a, b)
    lines = []
    model.summary(line_length=200, print_fn=lines.append)
    table = "\n".join(lines)
    assert "encoder (SharedDense)" in table and f"Total params: {K * U + U} " in table
    assert model.count_params() == K * U + U


@pytest.mark.parametrize("kind", ["tensor", "list", "tuple", "dict", "nested"])
def test_keras_file_and_weights_file(path, rng, tmp_path, kind):
    structure = batches(rng, kind)
    layer = sd.SharedDense(U, activation="gelu")
    model = functional(layer, structure)
    draw_weights(rng, layer)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")

    loaded = keras.models.load_model(tmp_path / "model.keras")
    filled = functional(sd.SharedDense(U, activation="gelu"), structure)
    filled.load_weights(tmp_path / "model.weights.h5")
    wanted = keras.tree.flatten(model.predict(structure, verbose=0))
    for other in (loaded, filled):
        got = keras.tree.flatten(other.predict(structure, verbose=0))
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(a, b)


def test_regularizers_count_weights_once_and_outputs_each(path, rng):
    x = batches(rng)
    losses = []
    for cls in (sd.SharedDense, keras.layers.Dense):
        layer = cls(
            U,
            kernel_initializer="ones",
            kernel_regularizer=keras.regularizers.L1(1.0),
            bias_initializer="ones",
            bias_regularizer=keras.regularizers.L2(0.5),
            activity_regularizer=keras.regularizers.L1(0.25),
        )
        model = functional(layer, x)
        model([np.ones_like(a) for a in x])
        losses.append(sorted(float(loss) for loss in model.losses))
    # Outputs are K + 1 everywhere; Keras divides an output's loss by its batch of 8.
    outputs = [0.25 * (K + 1) * U * rows / 8 for rows in (8, 16)]
    assert losses[0] == losses[1] == sorted([K * U, 0.5 * U, *outputs])


def test_constraints_hold_after_a_step(path, rng):
    x = batches(rng)
    layer = sd.SharedDense(U, kernel_constraint="non_neg", bias_constraint="non_neg")
    layer.build((None, K))
    draw_weights(rng, layer)
    dys = [rng.normal(size=(*a.shape[:-1], U)).astype("float32") for a in x]
    kernel, (bias,) = split(layer)
    exact = Oracle(x, kernel, [bias]).backward(dys)
    variables = layer.trainable_variables
    with tf.GradientTape() as tape:
        results = layer(x)
    grads = tape.gradient(results, [v.value for v in variables], output_gradients=dys)
    assert (kernel - exact["dkernel"].value < 0).any()
    keras.optimizers.SGD(1.0).apply(grads, variables)
    for before, after, step in zip(
        (kernel, bias), layer.get_weights(), (exact["dkernel"], *exact["dbias"]), strict=True
    ):
        value = before - step.value
        rounding = 2 * roundoff("float32") * (np.abs(before) + np.abs(step.value))
        Exact(np.maximum(value, 0), step.bound + rounding).check(after)


def test_frozen(path, rng):
    x = batches(rng)
    frozen, head = sd.SharedDense(U, trainable=False), keras.layers.Dense(1)
    model = keras.Sequential([frozen, head])
    model(x[0])
    before = frozen.get_weights()
    assert not frozen.trainable_weights and len(model.trainable_weights) == 2
    model.compile("sgd", "mse")
    head_before = head.get_weights()
    model.train_on_batch(x[0], np.ones((8, 1)))
    for a, b in zip(before, frozen.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(head_before[0], head.get_weights()[0])

    xs = [tf.constant(a) for a in x]
    dys = [rng.normal(size=(*a.shape[:-1], U)).astype("float32") for a in x]
    with tf.GradientTape() as tape:
        tape.watch(xs)
        results = frozen(xs)
    grads = tape.gradient(results, xs, output_gradients=dys)
    for got, truth in zip(grads, Oracle(x, *split(frozen)).backward(dys)["dx"], strict=True):
        truth.check(got)


def test_lora_on_several_inputs(path, rng):
    x = batches(rng)
    layer = sd.SharedDense(U, lora_rank=2)
    layer.build([a.shape for a in x])
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    assert [w.name for w in layer.trainable_weights] == ["bias", "lora_kernel_a", "lora_kernel_b"]
    merged = Oracle(x, np.float32(layer.kernel), [np.float32(layer.bias)]).forward()
    for y, truth in zip(layer(x), merged, strict=True):
        truth.check(y)


def test_quantized_on_several_inputs(rng):
    x = batches(rng)
    layers = [cls(U) for cls in (sd.SharedDense, keras.layers.Dense)]
    for layer in layers:
        layer.build((None, K))
    layers[1].set_weights(layers[0].get_weights())
    for layer in layers:
        layer.quantize("int8")
    for y, wanted in zip(*(apply(layer, x) for layer in layers), strict=True):
        np.testing.assert_array_equal(y, wanted)  # both are Keras's own code


def test_outputs_in_a_tuple_are_loaded_as_a_list(path, tmp_path):
    """Keras's, of Dense too; saving-and-serving.md says so."""
    inputs = [keras.Input((3,)), keras.Input((3,))]
    for layer in (sd.SharedDense(2), keras.layers.Dense(2)):
        outputs = layer(inputs) if isinstance(layer, sd.SharedDense) else map(layer, inputs)
        model = keras.Model(inputs, tuple(outputs))
        assert isinstance(model([np.ones((1, 3))] * 2), tuple)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert isinstance(loaded([np.ones((1, 3))] * 2), list)
