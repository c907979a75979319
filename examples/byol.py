"""Learning without labels: two views of an image, one network, a branch that does not train it.

    python examples/byol.py

The embedding of one view predicts that of the other: SimSiam in its one-sided form (Chen and He,
"Exploring Simple Siamese Representation Learning", CVPR 2021); BYOL (Grill et al., NeurIPS 2020)
has older weights for the target. If the target trained the network too, the easiest way to agree
would be to embed all images alike: it would collapse. So the target's branch says
`"trains_kernel": False`, and its part of the kernels' gradients is neither used nor computed.

Collapse shows in the spread of embeddings of length 1: each of their d numbers has a standard
deviation of about 1 / sqrt(d) if they point everywhere, and of 0 if they are all the same.
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

WIDTH = 32  # of an embedding
BATCH = 64


def branched(target_trains: bool = False):
    """Makes layers with a branch for the online view and one for the target."""
    branches = {"online": {}, "target": {"trains_kernel": target_trains}}
    return lambda units, **arguments: sd.SharedDense(units, branches=branches, **arguments)


def detach_target(views):
    """What plain reuse needs in the place of the branch."""
    return {**views, "target": keras.ops.stop_gradient(views["target"])}


def build(dense, detach=lambda views: views, predict=True) -> tuple[keras.Model, keras.Model]:
    """The model of two views, whose output is how far they are from agreeing, and its encoder."""
    views = {name: keras.Input((64,), name=name) for name in ("online", "target")}
    # No biases: the branch keeps its gradient from the kernel alone.
    norm = keras.layers.BatchNormalization(scale=False, center=False)
    hidden = dense(128, use_bias=False, kernel_initializer=keras.initializers.GlorotUniform(1))
    embed = dense(WIDTH, use_bias=False, kernel_initializer=keras.initializers.GlorotUniform(2))

    def encode(views):
        normal = keras.tree.map_structure(norm, hidden(views))
        return embed(keras.tree.map_structure(keras.ops.gelu, normal))

    embedded = detach(encode(views))
    predicted = embedded["online"]
    if predict:
        predicted = keras.layers.Dense(WIDTH)(keras.layers.Dense(16, "gelu")(predicted))
    unit = [keras.ops.normalize(z, axis=1) for z in (predicted, embedded["target"])]
    model = keras.Model(views, 1 - keras.ops.sum(unit[0] * unit[1], axis=1))
    model.compile(keras.optimizers.Adam(0.003), loss=lambda _, loss: loss)
    return model, keras.Model(views["online"], encode({"online": views["online"]})["online"])


def view(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The images moved by up to a pixel, a bit noisy, and a fifth of the pixels gone."""
    square = images.reshape(-1, 8, 8)
    padded = np.pad(square, ((0, 0), (1, 1), (1, 1)))
    moved = np.empty_like(square)
    for i, (y, x) in enumerate(rng.integers(3, size=(len(images), 2))):
        moved[i] = padded[i, y : y + 8, x : x + 8]
    noisy = moved.reshape(images.shape) + rng.normal(0, 0.1, images.shape)
    return (noisy * (rng.random(images.shape) < 0.8)).astype(np.float32)


def train(dense, images: np.ndarray, epochs: int, seed: int, **how):
    """The loss of each epoch, and the encoder."""
    keras.utils.set_random_seed(seed)
    model, encoder = build(dense, **how)
    rng = np.random.default_rng(seed)
    losses = []
    for _ in range(epochs):
        shuffled = rng.permutation(images)
        views = {name: view(shuffled, rng) for name in ("online", "target")}
        history = model.fit(
            views, np.zeros(len(images)), batch_size=BATCH, shuffle=False, verbose=0
        )
        losses += history.history["loss"]
    return losses, encoder


def spread(encoder: keras.Model, images: np.ndarray) -> float:
    """Standard deviation of the numbers of an embedding of length 1, in units of 1 / sqrt(d)."""
    z = encoder.predict(images, verbose=0)
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    return float(z.std(axis=0).mean() * np.sqrt(WIDTH))


def main(arguments: list[str] | None = None) -> int:
    """Trains with the branch, by hand, and without; 0 when all is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    train_set, test_set = load(options.seed)
    run = (train_set.images, options.epochs, options.seed)
    plain, _ = train(reused, *run, detach=detach_target)
    collapsed_losses, collapsed = train(branched(target_trains=True), *run)
    losses, encoder = train(branched(), *run)
    agree = compare(losses, plain, steps=-(-len(train_set.labels) // BATCH), terms=128)

    print(f"\n{'target':<26} {'loss':>8} {'spread':>8} {'1-nearest-neighbour accuracy':>30}")
    for name, model, loss in (
        ("trains_kernel: False", encoder, losses[-1]),
        ("trains the kernels, too", collapsed, collapsed_losses[-1]),
    ):
        embedded = [
            Digits(model.predict(s.images, verbose=0), s.labels) for s in (train_set, test_set)
        ]
        accuracy = nearest_neighbour_accuracy(*embedded)
        print(f"{name:<26} {loss:>8.4f} {spread(model, test_set.images):>8.3f} {accuracy:>30.1%}")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
