"""Three tasks with data of their own, one trunk: each layer of it takes all of them in one call.

    python examples/multi_task.py

One names the digit, and has few labels; one says whether it is odd; one says how an image was
turned, for which labels cost nothing (Gidaris, Singh and Komodakis, "Unsupervised Representation
Learning by Predicting Image Rotations", ICLR 2018). Each has its own images, head and loss. This is
the hard parameter sharing of Caruana, "Multitask Learning", Machine Learning, 1997.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from digits import Digits, load
from plain import compare, reused

import shared_dense as sd

CLASSES = {"digit": 10, "odd": 2, "turn": 4}  # by task
BATCH = 32


def examples_of(digits: Digits, rng: np.random.Generator, labelled: int | None = None):
    """Images and labels of each task, as many of one as of another, in an order of their own."""
    turn = rng.integers(4, size=len(digits.labels))
    square = digits.images.reshape(-1, 8, 8)
    turned = np.stack([np.rot90(image, k) for image, k in zip(square, turn, strict=True)])
    tasks = {
        "digit": (digits.images[:labelled], digits.labels[:labelled]),
        "odd": (digits.images, digits.labels % 2),
        "turn": (turned.reshape(-1, 64), turn),
    }
    images, labels = {}, {}
    for task, (x, y) in tasks.items():
        order = rng.permutation(len(turn)) % len(y)
        images[task], labels[task] = x[order], y[order]
    return images, labels


def build(dense, tasks: list[str]) -> keras.Model:
    """Images of each task -> 128 -> 64, shared -> the task's classes."""
    images = {task: keras.Input((64,), name=task) for task in tasks}
    features = dense(64, activation="gelu")(dense(128, activation="gelu")(images))
    scores = {
        task: keras.layers.Dense(CLASSES[task], name=f"{task}_head")(features[task])
        for task in tasks
    }
    model = keras.Model(images, scores)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(0.003),
        loss=dict.fromkeys(tasks, loss),
        metrics=dict.fromkeys(tasks, "accuracy"),
    )
    return model


def train(dense, data, tasks: list[str], epochs: int, seed: int):
    """The loss of each epoch, and the model."""
    keras.utils.set_random_seed(seed)
    model = build(dense, tasks)
    x, y = ({task: part[task] for task in tasks} for part in data)
    history = model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
    return history.history["loss"], model


def main(arguments: list[str] | None = None) -> int:
    """Trains with SharedDense and with plain reuse, and compares; 0 when all is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labelled", type=int, default=50, help="images of the first task")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    train_set, test_set = load(options.seed)
    rng = np.random.default_rng(options.seed)
    data = examples_of(train_set, rng, options.labelled)
    x, y = examples_of(test_set, rng)

    run = (options.epochs, options.seed)
    plain, _ = train(reused, data, list(CLASSES), *run)
    alone = {task: train(sd.SharedDense, data, [task], *run)[1] for task in CLASSES}
    losses, together = train(sd.SharedDense, data, list(CLASSES), *run)
    agree = compare(losses, plain, steps=-(-len(train_set.labels) // BATCH), terms=128)

    scores = together.evaluate(x, y, return_dict=True, verbose=0)
    print(f"\n{'task':<8} {'trained together':>18} {'alone':>8}   (accuracy on test images)")
    for task, model in alone.items():
        by_itself = model.evaluate({task: x[task]}, {task: y[task]}, return_dict=True, verbose=0)
        accuracy = next(v for k, v in by_itself.items() if k.endswith("accuracy"))
        print(f"{task:<8} {scores[f'{task}_accuracy']:>18.1%} {accuracy:>8.1%}")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
