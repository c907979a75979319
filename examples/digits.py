"""What the examples on digits share: the images, and how well embeddings tell digits apart.

The images are scikit-learn's 8x8 handwritten digits, which come with it: nothing is downloaded.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier


class Digits(NamedTuple):
    """Images as rows of 64 pixels in [0, 1], and the digits they show."""

    images: np.ndarray
    labels: np.ndarray


def load(seed: int) -> tuple[Digits, Digits]:
    """Training digits (70 %) and test digits (30 %)."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=0.3, stratify=labels, random_state=seed
    )
    return Digits(train_x, train_y), Digits(test_x, test_y)


def nearest_neighbour_accuracy(known: Digits, unknown: Digits) -> float:
    """How often the nearest known image (or embedding of one) shows the same digit."""
    nearest = KNeighborsClassifier(n_neighbors=1).fit(known.images, known.labels)
    return nearest.score(unknown.images, unknown.labels)
