"""A detection head that is shared over the five levels of a feature pyramid.

    python examples/detection_head.py

Large objects are found on coarse maps, small ones on fine maps, by the same head: the five maps of
an image have 256, 64, 16, 4 and 1 cells, and each layer takes them in one call. A cell says which
class is in it, if any, and the box around it in units of its own size, as in Tian et al., "FCOS",
ICCV 2019. Images are drawn: one square, ring or cross of any size on a noisy ground.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from plain import compare, reused

import shared_dense as sd

SIZE = 128  # of an image
STRIDES = (8, 16, 32, 64, 128)  # of the maps
SHAPES = ("square", "ring", "cross")
FEATURES = 12 * 12  # a cell and what is around it, 4 x 4 points a cell
BATCH = 32


# --- The data ------------------------------------------------------------------------------------


def draw(count: int, rng: np.random.Generator):
    """Images `[count, 128, 128]`, the shapes in them, and their boxes: centre y, x and size."""
    size = np.exp(rng.uniform(np.log(6), np.log(SIZE), count))  # as many of 6 to 12 as of 60 to 120
    centre = rng.uniform(size[:, None] / 2, SIZE - size[:, None] / 2, (count, 2))
    shape = rng.integers(len(SHAPES), size=count)
    # How far each row and each column is from the centre; 1 is the edge of the box.
    far = np.abs(np.arange(SIZE) + 0.5 - centre[..., None]) / (size[:, None, None] / 2)
    y, x = far[:, 0, :, None], far[:, 1, None, :]
    inside = np.select(
        [(shape == i)[:, None, None] for i in range(len(SHAPES))],
        [
            np.maximum(y, x) < 1,
            (y**2 + x**2 > 0.4) & (y**2 + x**2 < 1),
            (np.minimum(y, x) < 0.3) & (np.maximum(y, x) < 1),
        ],
    )
    images = inside + rng.normal(0, 0.2, inside.shape)
    return images.astype(np.float32), shape, np.column_stack([centre, size])


def pyramid(images: np.ndarray) -> list[np.ndarray]:
    """The five maps `[count, cells, FEATURES]`: each cell sees itself and its neighbours."""
    maps = []
    for stride in STRIDES:
        cells, pool = SIZE // stride, stride // 4
        small = images.reshape(-1, 4 * cells, pool, 4 * cells, pool).mean(axis=(2, 4))
        padded = np.pad(small, ((0, 0), (4, 4), (4, 4)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (12, 12), (1, 2))
        maps.append(windows[:, ::4, ::4].reshape(len(images), cells**2, FEATURES))
    return maps


def on_map(stride: int, boxes: np.ndarray) -> np.ndarray:
    """Which objects are on this map: those of about its stride."""
    return (0.75 * stride <= boxes[:, 2]) & (boxes[:, 2] < 1.5 * stride)


def targets(shape: np.ndarray, boxes: np.ndarray):
    """Per map the classes `[count, cells]`, 0 for nothing, and the boxes `[count, cells, 4]`.

    An object is in the cell of its centre, on the map that `on_map` says. A box is the place of
    the centre in the cell and the size, by the stride; the last number is 1 where an object is.
    """
    classes, places = [], []
    for stride in STRIDES:
        cells = SIZE // stride
        here = np.flatnonzero(on_map(stride, boxes))
        at, place = np.divmod(boxes[here] / stride, 1)
        cell = (at[:, 0] * cells + at[:, 1]).astype(int)
        classes.append(np.zeros((len(boxes), cells**2), np.int32))
        classes[-1][here, cell] = 1 + shape[here]
        places.append(np.zeros((len(boxes), cells**2, 4), np.float32))
        places[-1][here, cell, :2] = place[:, :2]
        places[-1][here, cell, 2] = boxes[here, 2] / stride
        places[-1][here, cell, 3] = 1
    return classes, places


# --- The head ------------------------------------------------------------------------------------


def build(dense) -> keras.Model:
    """A model of five maps, with five maps of class scores and five of boxes."""
    maps = [keras.Input((None, FEATURES), name=f"stride_{stride}") for stride in STRIDES]
    hidden = dense(64, activation="gelu")(maps)
    # Most cells are empty, and the head starts from there (Lin et al., "Focal Loss", ICCV 2017).
    empty = keras.initializers.Constant([5.0, 0, 0, 0])
    classes = dense(1 + len(SHAPES), bias_initializer=empty)(hidden)
    boxes = dense(3)(hidden)
    model = keras.Model(maps, [*classes, *boxes])
    model.compile(keras.optimizers.Adam(0.02), [class_loss] * 5 + [box_loss] * 5)
    return model


def class_loss(classes, scores):
    """Cross-entropy, summed over the cells of an image."""
    loss = keras.losses.sparse_categorical_crossentropy(classes, scores, from_logits=True)
    return keras.ops.sum(loss, axis=1)


def box_loss(boxes, got):
    """Squared error in the cells that have an object."""
    squares = keras.ops.sum((boxes[..., :3] - got) ** 2, axis=-1)
    return keras.ops.sum(boxes[..., 3] * squares, axis=1)


def train(dense, data, epochs: int, seed: int) -> tuple[list[float], keras.Model]:
    """The loss of each epoch, and the model."""
    keras.utils.set_random_seed(seed)
    model = build(dense)
    images, shape, boxes = data
    classes, places = targets(shape, boxes)
    history = model.fit(
        pyramid(images), [*classes, *places], batch_size=BATCH, epochs=epochs, verbose=0
    )
    return history.history["loss"], model


def detect(model: keras.Model, images: np.ndarray):
    """The shape and the box of the surest cell of all maps of each image."""
    outputs = model.predict(pyramid(images), verbose=0)
    scores = np.concatenate([keras.ops.softmax(y) for y in outputs[:5]], axis=1)[..., 1:]
    corners = [np.indices((SIZE // s,) * 2).reshape(2, -1).T for s in STRIDES]
    boxes = np.concatenate(
        [
            s * (np.pad(at, ((0, 0), (0, 1))) + y)
            for s, at, y in zip(STRIDES, corners, outputs[5:], strict=True)
        ],
        axis=1,
    )
    best = scores.max(axis=2).argmax(axis=1)
    each = np.arange(len(images))
    return scores[each, best].argmax(axis=1), boxes[each, best]


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes."""
    low = np.maximum(a[:, :2] - a[:, 2:] / 2, b[:, :2] - b[:, 2:] / 2)
    high = np.minimum(a[:, :2] + a[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2)
    both = np.prod(np.maximum(high - low, 0), axis=1)
    return both / (a[:, 2] ** 2 + b[:, 2] ** 2 - both)


def main(arguments: list[str] | None = None) -> int:
    """Trains with SharedDense and with plain reuse, and compares; 0 when all is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    rng = np.random.default_rng(options.seed)
    data, (images, shape, boxes) = draw(options.images, rng), draw(500, rng)
    plain, _ = train(reused, data, options.epochs, options.seed)
    losses, model = train(sd.SharedDense, data, options.epochs, options.seed)
    agree = compare(losses, plain, steps=-(-options.images // BATCH), terms=FEATURES)

    found, got = detect(model, images)
    right = (found == shape) & (overlap(got, boxes) > 0.5)
    print(f"{'on the map of':<15} {'objects':>8}   found, box IoU > 0.5")
    for stride in STRIDES:
        here, cells = on_map(stride, boxes), SIZE // stride
        print(f"{f'{cells} x {cells} cells':<15} {here.sum():>8} {right[here].mean():>22.1%}")
    print(f"{'all':<15} {len(boxes):>8} {right.mean():>22.1%}")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
