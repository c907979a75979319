"""Whole models: what a training step and a prediction take with SharedDense, and without.

Each is a stack of layers that several inputs go through. Three ways to write it: a Dense layer
called on every input (plain reuse), the inputs concatenated once, sent through the stack, and split
again (concat), and SharedDense.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

import shared_dense as sd
from bench import interleaved, processes, timing
from bench.plan import Job
from bench.shapes import Stack

WAYS = ("shared", "dense", "concat")
STEPS = 3  # of which the losses are compared


def _contrastive(outputs: list[tf.Tensor]) -> tf.Tensor:
    """Neighbours in a batch are of one class by turns (Hadsell, Chopra and LeCun, 2006)."""
    a, b = outputs
    distance = tf.sqrt(tf.reduce_sum((a - b) ** 2, axis=-1) + 1e-9)
    same = tf.cast(tf.range(tf.shape(a)[0]) % 2, a.dtype)
    return tf.reduce_mean(same * distance**2 + (1 - same) * tf.nn.relu(1 - distance) ** 2)


def _softmax(scores: tf.Tensor) -> tf.Tensor:
    """A class for every row, in turn."""
    labels = tf.range(tf.shape(scores)[0]) % scores.shape[-1]
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores)
    return tf.reduce_mean(losses)


def _squares(outputs: list[tf.Tensor]) -> tf.Tensor:
    """As box regression has it, of every level."""
    return tf.add_n([tf.reduce_mean((y - 0.1) ** 2) for y in outputs])


# Of the stacks in shapes.STACKS; any other is trained on squares.
LOSSES: dict[str, Callable[[list[tf.Tensor]], tf.Tensor]] = {
    "Siamese MLP": _contrastive,
    # Each query's item among those of the batch.
    "two-tower": lambda outputs: _softmax(tf.matmul(*outputs, transpose_b=True)),
    "per-timestep head": lambda outputs: tf.add_n([_softmax(y) for y in outputs]),
}


class Written:
    """A model in one of the ways, with an optimizer. The same seed gives the same weights."""

    def __init__(self, model: Stack, way: str):
        layer = sd.SharedDense if way == "shared" else keras.layers.Dense
        activations = ["relu"] * (len(model.widths) - 2) + [None]
        self._model, self._way = model, way
        self._layers = [
            layer(units, activation=activation, kernel_initializer=keras.initializers.HeNormal(i))
            for i, (units, activation) in enumerate(zip(model.widths[1:], activations, strict=True))
        ]
        for width, built in zip(model.widths, self._layers, strict=False):
            built.build((None, width))
        self.variables = [w for layer in self._layers for w in layer.trainable_variables]
        self._optimizer = keras.optimizers.Adam(1e-3)
        self._optimizer.build(self.variables)

    def predict(self, xs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Outputs, one per input."""
        ys = list(xs)
        if self._way == "concat":
            ys = [tf.concat(ys, axis=0)]
        for layer in self._layers:
            ys = layer(ys) if self._way == "shared" else [layer(y) for y in ys]
        return tf.split(ys[0], self._model.rows) if self._way == "concat" else ys

    def train(self, xs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """One step of Adam; the loss before it."""
        with tf.GradientTape() as tape:
            loss = LOSSES.get(self._model.model, _squares)(self.predict(xs))
        self._optimizer.apply(tape.gradient(loss, self.variables), self.variables)
        return [loss]


def inputs(model: Stack) -> list[tf.Tensor]:
    """Normal numbers, the same on every run."""
    generator = tf.random.Generator.from_seed(1)
    return [generator.normal([rows, model.widths[0]]) for rows in model.rows]


def losses(model: Stack, way: str) -> list[float]:
    """Of the first steps of training."""
    written, xs = Written(model, way), inputs(model)
    step = tf.function(written.train, autograph=False)
    return [float(step(xs)[0]) for _ in range(STEPS)]


@functools.cache  # the same for inference and training
def difference(model: Stack) -> dict[str, float]:
    """Largest difference of a loss from plain reuse's, relative to it."""
    of_plain = losses(model, "dense")
    return {
        way: max(abs(a - b) / abs(b) for a, b in zip(losses(model, way), of_plain, strict=True))
        for way in WAYS
        if way != "dense"
    }


def measure(model: Stack, training: bool, rounds: int, budget: float) -> dict:
    """Seconds of a training step, else of a prediction, in every way and round."""
    written = {way: Written(model, way) for way in WAYS}
    steps = {way: w.train if training else w.predict for way, w in written.items()}
    results = 1 if training else len(model.rows)
    seconds = timing.measure(steps, inputs(model), [], results, rounds, budget)
    return {
        "seconds": seconds,
        "skipped": {way: interleaved.LATE for way in WAYS if way not in seconds},
        "loss_difference": difference(model),
    }


def rows(jobs: Sequence[Job], threads: int, rounds: int, budget: float) -> Iterator[dict]:
    """Nothing, then a row of each job."""
    timing.prepare(threads)
    yield {}
    for job in jobs:
        yield processes.tried(job.name, measure, job.of, job.backward, rounds, budget)
