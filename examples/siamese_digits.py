"""A Siamese network on real handwritten digits, trained with the op and without it.

Two images go through the same three layers, and the network learns to map images of one digit close
together and images of different digits apart. Each `SharedDense` layer is called on both images at
once: that is all there is to using it.

    make demo        # or: python examples/siamese_digits.py --help

The loss is the contrastive loss of Hadsell, Chopra and LeCun, "Dimensionality Reduction by Learning
an Invariant Mapping", CVPR 2006; `triplet_digits.py` does the same with triplets.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import matplotlib

matplotlib.use("Agg")
import numpy as np
from digits import Digits, load, nearest_neighbour_accuracy
from matplotlib import pyplot as plt
from sklearn.decomposition import PCA
from tqdm import tqdm

import shared_dense as sd


@contextlib.contextmanager
def quiet():
    """Sends what is written to stderr to nowhere."""
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


with quiet():  # a few lines that TensorFlow logs when imported heed no log level
    import keras
    import tensorflow as tf
    from plain import allowed_difference

MARGIN = 1.0  # images of different digits are pushed at least this far apart
STEPS_PER_EPOCH, PAIRS_PER_STEP = 64, 64


# --- The network ---------------------------------------------------------------------------------


class Encoder(keras.Model):
    """Three shared layers: 64 pixels -> 128 -> 64 -> an embedding of 16 numbers."""

    def __init__(self):
        super().__init__()
        # Not ReLU: its slope jumps at zero, so where a sum is all rounding error two correct
        # implementations may take different slopes, and drift apart. GELU's is smooth.
        self.hidden = sd.SharedDense(128, activation="gelu")
        self.narrow = sd.SharedDense(64, activation="gelu")
        self.embed = sd.SharedDense(16)

    def call(self, images):
        """Takes one batch of images, or a list of batches, and gives the same back, embedded."""
        return self.embed(self.narrow(self.hidden(images)))


def contrastive_loss(left, right, same):
    """Same digit: half the squared distance. Other digits: half the square of what lacks."""
    squared = tf.reduce_sum(tf.square(left - right), axis=1)
    distance = tf.sqrt(squared + 1e-9)  # the root has no slope at zero
    lacking = tf.maximum(MARGIN - distance, 0.0)
    return 0.5 * tf.reduce_mean(tf.where(same, squared, tf.square(lacking)))


# --- The data ------------------------------------------------------------------------------------


def draw_pairs(labels: np.ndarray, count: int, rng: np.random.Generator):
    """Indices of left and right images and whether they show the same digit: half of them do."""
    by_digit = [np.flatnonzero(labels == digit) for digit in range(10)]
    left = rng.integers(len(labels), size=count)
    same = rng.random(count) < 0.5
    shift = np.where(same, 0, rng.integers(1, 10, size=count))
    right = np.array([rng.choice(by_digit[d]) for d in (labels[left] + shift) % 10])
    return left, right, same


# --- Training ------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """What a training leaves behind."""

    encoder: Encoder
    path: str  # "op" or "fallback", and why
    reason: str
    losses: np.ndarray  # mean of each epoch
    step_ms: float  # median time of a whole training step


def train(digits: Digits, epochs: list, seed: int) -> Trained:
    """Trains an encoder on the given pairs, in the given order, starting from the given seed."""
    keras.utils.set_random_seed(seed)
    encoder = Encoder()
    optimizer = keras.optimizers.Adam()

    @tf.function
    def step(left, right, same):
        with tf.GradientTape() as tape:
            loss = contrastive_loss(*encoder([left, right]), same)
        weights = encoder.trainable_variables
        optimizer.apply(tape.gradient(loss, weights), weights)
        return loss

    # Weights are made outside the step, which is traced once.
    encoder([digits.images[:1], digits.images[:1]])
    optimizer.build(encoder.trainable_variables)

    losses, times = [], []
    for left, right, same in tqdm(epochs, unit="epoch", leave=False, disable=None):
        for batch in np.split(np.arange(len(same)), STEPS_PER_EPOCH):
            start = time.perf_counter()
            loss = step(digits.images[left[batch]], digits.images[right[batch]], same[batch])
            losses.append(float(loss))
            times.append(time.perf_counter() - start)
    status = sd.status()
    return Trained(
        encoder,
        status.last_path,
        status.last_reason,
        np.mean(np.reshape(losses, (len(epochs), -1)), axis=1),
        1e3 * float(np.median(times)),
    )


# --- How good it is ------------------------------------------------------------------------------


def accuracies(encoder: Encoder, train_set: Digits, test_set: Digits, seed: int):
    """Of same-or-different on test pairs, and of the digit of the nearest training image."""
    known, unknown = encoder(train_set.images).numpy(), encoder(test_set.images).numpy()
    left, right, same = draw_pairs(test_set.labels, 4000, np.random.default_rng(seed + 1))
    distance = np.linalg.norm(unknown[left] - unknown[right], axis=1)
    nearest = nearest_neighbour_accuracy(
        Digits(known, train_set.labels), Digits(unknown, test_set.labels)
    )
    return np.mean((distance < MARGIN / 2) == same), nearest


def draw(runs: dict[str, Trained], test_set: Digits, scores: dict, path: Path) -> None:
    """Saves the embeddings of the test digits, brought to two dimensions by one PCA."""
    embedded = {name: run.encoder(test_set.images).numpy() for name, run in runs.items()}
    plane = PCA(n_components=2).fit(next(iter(embedded.values())))
    flat = {name: plane.transform(points) for name, points in embedded.items()}
    reach = 1.05 * max(np.abs(points).max() for points in flat.values())
    share = plane.explained_variance_ratio_
    figure, axes = plt.subplots(
        1, len(runs), figsize=(13, 7.2), sharex=True, sharey=True, layout="constrained"
    )
    for axis, (name, points) in zip(axes, flat.items(), strict=True):
        for digit in range(10):
            x, y = points[test_set.labels == digit].T
            axis.scatter(x, y, s=20, alpha=0.75, linewidths=0, color=f"C{digit}", label=digit)
        axis.set_title(f"{name}: 1-nearest-neighbour accuracy {scores[name][1]:.1%}")
        axis.set_xlabel(f"first principal component ({share[0]:.0%} of the variance)")
        axis.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach))
        axis.grid(alpha=0.25)
    axes[0].set_ylabel(f"second principal component ({share[1]:.0%} of the variance)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", title="digit", markerscale=2)
    figure.suptitle(
        f"Siamese embedding of {len(test_set.labels)} digits never seen in training", fontsize=15
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


# --- The comparison ------------------------------------------------------------------------------


def op_is_due() -> bool:
    """Whether the op should be what runs here: there, and with a kernel for the device."""
    status = sd.status()
    device = "GPU" if tf.config.get_visible_devices("GPU") else "CPU"
    return status.available and "float32" in status.dtypes[device]


def report(runs: dict[str, Trained], scores: dict) -> bool:
    """Prints both trainings side by side; whether their losses agree."""
    (first, a), (second, b) = runs.items()
    print(f"\nLoss per epoch\n{'epoch':>6} {first:>14} {second:>14} {'difference':>11}")
    for epoch, (x, y) in enumerate(zip(a.losses, b.losses, strict=True), 1):
        print(f"{epoch:>6} {x:>14.8f} {y:>14.8f} {abs(x - y):>11.1e}")

    difference = np.abs(a.losses - b.losses) / b.losses[0]  # NaN is no agreement
    bound = allowed_difference(STEPS_PER_EPOCH * np.arange(1, len(difference) + 1), terms=128)
    agree = bool(np.all(difference <= bound))
    worst = int(np.argmax(difference / bound))
    print(
        f"Largest difference, relative to the first loss: {difference.max():.1e}\n"
        f"Closest to its bound: {difference[worst]:.1e} in epoch {worst + 1}, bound "
        f"{bound[worst]:.1e}: {'OK' if agree else 'FAIL'}\n"
        "(bound: steps so far x 128 x 2^-24, the rounding errors of every step added up)"
    )

    print(f"\nOn test digits {first:>26} {second:>14}")
    print(f"{'same or different':<26} {scores[first][0]:>14.1%} {scores[second][0]:>14.1%}")
    print(f"{'1-nearest-neighbour':<26} {scores[first][1]:>14.1%} {scores[second][1]:>14.1%}")
    print(f"{'median time of a step':<26} {a.step_ms:>11.2f} ms {b.step_ms:>11.2f} ms")
    print(
        "(a whole training step from Python: forward, loss, backward, optimizer; layers as small "
        "as\nthese leave little of it to the matrix products. `make bench` times those alone.)"
    )
    return agree


def main() -> int:
    """Trains twice, compares, draws; 0 when all is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the split, pairs and weights")
    parser.add_argument("--out", type=Path, default=Path("out/siamese_digits.png"))
    options = parser.parse_args()
    if options.epochs < 1:
        parser.error("--epochs must be at least 1")

    train_set, test_set = load(options.seed)
    rng = np.random.default_rng(options.seed)
    pairs = STEPS_PER_EPOCH * PAIRS_PER_STEP
    epochs = [draw_pairs(train_set.labels, pairs, rng) for _ in range(options.epochs)]
    print(
        f"{len(train_set.labels)} training and {len(test_set.labels)} test digits; "
        f"{options.epochs} epochs of {STEPS_PER_EPOCH} steps of {PAIRS_PER_STEP} pairs, twice"
    )

    default = train(train_set, epochs, options.seed)
    with sd.fallback():
        plain = train(train_set, epochs, options.seed)

    print(f"Path: {default.path} ({default.reason})")
    if default.path != "op":
        print("The op is not used: both trainings ran plain TensorFlow ops, the fallback.")
    names = ("op", "fallback") if default.path == "op" else ("fallback", "fallback again")
    runs = dict(zip(names, (default, plain), strict=True))
    scores = {
        name: accuracies(run.encoder, train_set, test_set, options.seed)
        for name, run in runs.items()
    }
    agree = report(runs, scores)
    draw(runs, test_set, scores, options.out)
    print(f"\nEmbedding of the test digits: {options.out}")

    if op_is_due() and default.path != "op":
        print(f"FAIL: the op is available, but {default.path} ran: {default.reason}")
        return 1
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
