"""A Siamese network trained on triplets: an anchor, an image of its digit, one of another digit.

    python examples/triplet_digits.py

The loss is the triplet loss of Schroff, Kalenichenko and Philbin, "FaceNet", CVPR 2015, in the soft
form of Hermans, Beyer and Leibe, "In Defense of the Triplet Loss", 2017: log(1 + exp(near - far)).
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from digits import Digits, load, nearest_neighbour_accuracy
from plain import compare, reused

import shared_dense as sd

BATCH = 64


def build(dense) -> tuple[keras.Model, keras.Model]:
    """The model of three images that is trained, and its encoder of one."""
    images = [keras.Input((64,), name=name) for name in ("anchor", "same", "other")]
    hidden, embed = dense(128, activation="gelu"), dense(16)
    anchor, same, other = embed(hidden(images))  # three images, one call of each layer

    near = keras.ops.sum((anchor - same) ** 2, axis=1)
    far = keras.ops.sum((anchor - other) ** 2, axis=1)
    model = keras.Model(images, keras.ops.softplus(near - far))
    model.compile(keras.optimizers.Adam(), loss=lambda _, loss: loss)
    return model, keras.Model(images[0], embed(hidden(images[0])))


def draw_triplets(labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """For each image as the anchor: indices of it, of one of its digit, of one of another."""
    by_digit = [np.flatnonzero(labels == digit) for digit in range(10)]
    others = (labels + rng.integers(1, 10, size=len(labels))) % 10
    anchor = rng.permutation(len(labels))
    return [
        anchor,
        np.array([rng.choice(by_digit[digit]) for digit in labels[anchor]]),
        np.array([rng.choice(by_digit[digit]) for digit in others[anchor]]),
    ]


def train(dense, digits: Digits, epochs: int, seed: int) -> tuple[list[float], keras.Model]:
    """The loss of each epoch, and the encoder."""
    keras.utils.set_random_seed(seed)
    model, encoder = build(dense)
    rng = np.random.default_rng(seed)
    losses = []
    for _ in range(epochs):
        images = [digits.images[indices] for indices in draw_triplets(digits.labels, rng)]
        history = model.fit(
            images, np.zeros(len(images[0])), batch_size=BATCH, shuffle=False, verbose=0
        )
        losses += history.history["loss"]
    return losses, encoder


def main(arguments: list[str] | None = None) -> int:
    """Trains with SharedDense and with plain reuse, and compares; 0 when all is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    train_set, test_set = load(options.seed)
    plain, _ = train(reused, train_set, options.epochs, options.seed)
    losses, encoder = train(sd.SharedDense, train_set, options.epochs, options.seed)
    agree = compare(losses, plain, steps=-(-len(train_set.labels) // BATCH), terms=128)

    embedded = [
        Digits(encoder.predict(s.images, verbose=0), s.labels) for s in (train_set, test_set)
    ]
    accuracy = nearest_neighbour_accuracy(*embedded)
    print(f"1-nearest-neighbour accuracy in 16 numbers: {accuracy:.1%}")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
