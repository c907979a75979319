"""Ways in which Keras may run a training step: the weights become those of Dense reuse.

Exactly: numbers, rates and batches are whole or powers of two, and the loss is linear in the
outputs, so every gradient is a multiple of a power of two that float32 holds.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from exact import assert_equal, set_whole_weights, whole

import shared_dense as sd

ROWS, WIDTH, UNITS, BATCH = 16, 4, 3, 4

SETTINGS = {
    "run_eagerly": ({}, {"run_eagerly": True}),
    "steps_per_execution": ({}, {"steps_per_execution": 2}),
    "gradient accumulation": ({"gradient_accumulation_steps": 2}, {}),
    "accumulation, eagerly": ({"gradient_accumulation_steps": 4}, {"run_eagerly": True}),
    "accumulation, several steps": (
        {"gradient_accumulation_steps": 2},
        {"steps_per_execution": 4},
    ),
    "moving average of weights": ({"use_ema": True, "ema_momentum": 0.5}, {}),
}


class History(keras.callbacks.Callback):
    """The weights after every execution."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(self.model.get_weights())


def product(target, output):
    return keras.ops.sum(target * output, axis=-1)


def trained(layer, outputs_of, xs, targets, weights, optimizer, settings):
    inputs = [keras.Input(x.shape[1:]) for x in xs]
    model = keras.Model(inputs, outputs_of(inputs))
    layer.set_weights(weights)
    model.compile(
        keras.optimizers.SGD(0.125, momentum=0.5, **optimizer), [product, product], **settings
    )
    history = History()
    fit = model.fit(
        xs, targets, batch_size=BATCH, epochs=2, shuffle=False, verbose=0, callbacks=[history]
    )
    evaluated = model.evaluate(xs, targets, verbose=0)
    return history.weights, fit.history["loss"], evaluated, model.predict(xs, verbose=0)


@pytest.mark.parametrize("name", SETTINGS)
def test_training_is_that_of_dense_reuse(path, rng, name):
    xs = [whole(rng, ROWS, WIDTH), whole(rng, ROWS, 2, WIDTH)]
    targets = [whole(rng, *x.shape[:-1], UNITS) for x in xs]
    shared, dense = (cls(UNITS, activation="relu") for cls in (sd.SharedDense, keras.layers.Dense))
    shared.build((None, WIDTH))
    weights = set_whole_weights(rng, shared)

    arguments = (xs, targets, weights, *SETTINGS[name])
    got = trained(shared, shared, *arguments)
    wanted = trained(dense, lambda inputs: [dense(x) for x in inputs], *arguments)

    assert_equal(list(got), list(wanted))
    steps = got[0]
    assert any(np.any(a != b) for a, b in zip(weights, steps[-1], strict=True)), "nothing learnt"
    if "accumulation" in name and "several" not in name:
        # Nothing moves until the gradients of all the steps are there.
        assert_equal(steps[0], weights)
