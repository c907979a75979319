"""A tied autoencoder on digits: the decoder uses the encoder's kernels, transposed.

    python examples/tied_autoencoder.py

Half the weights, and each kernel has one gradient, to which both of its uses add. The untied
network starts from the same numbers. Tied weights: Vincent et al., "Stacked Denoising
Autoencoders", JMLR 2010.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from digits import load
from plain import compare

import shared_dense as sd

BATCH = 32


class Transposed(keras.layers.Layer):
    """TransposedDense written by hand, in plain Keras."""

    def __init__(self, tied_to, activation=None):
        super().__init__()
        self.tied_to, self.activation = tied_to, keras.activations.get(activation)

    def build(self, input_shape):
        """Makes the bias."""
        self.bias = self.add_weight(shape=(self.tied_to.kernel.shape[0],), initializer="zeros")

    def call(self, x):
        """Applies the layer to one tensor."""
        kernel = keras.ops.transpose(self.tied_to.kernel)
        return self.activation(keras.ops.matmul(x, kernel) + self.bias)


def untied(tied_to, activation=None):
    """A Dense layer whose kernel starts as the transposed one, and goes its own way."""
    start = keras.ops.transpose(tied_to.kernel)
    return keras.layers.Dense(start.shape[1], activation, kernel_initializer=lambda *_, **__: start)


def build(dense, decode) -> keras.Model:
    """64 pixels -> 48 -> 12 numbers -> 48 -> 64 pixels."""
    images = keras.Input((64,))
    first, second = dense(48, activation="gelu"), dense(12)
    code = second(first(images))
    restored = decode(first)(decode(second, activation="gelu")(code))
    model = keras.Model(images, restored)
    model.compile(keras.optimizers.Adam(0.003), "mse")
    return model


def train(dense, decode, images: np.ndarray, epochs: int, seed: int):
    """The loss of each epoch, and the model."""
    keras.utils.set_random_seed(seed)
    model = build(dense, decode)
    history = model.fit(images, images, batch_size=BATCH, epochs=epochs, verbose=0)
    return history.history["loss"], model


def main(arguments: list[str] | None = None) -> int:
    """Trains tied, tied by hand and untied, and compares; 0 when all is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    train_set, test_set = load(options.seed)
    run = (train_set.images, options.epochs, options.seed)
    plain, _ = train(keras.layers.Dense, Transposed, *run)
    _, apart = train(keras.layers.Dense, untied, *run)
    losses, tied = train(sd.SharedDense, sd.TransposedDense, *run)
    agree = compare(losses, plain, steps=-(-len(train_set.labels) // BATCH), terms=64)

    print(f"\n{'':<10} {'weights':>8} {'test error (mean square)':>26}")
    for name, model in (("tied", tied), ("untied", apart)):
        error = model.evaluate(test_set.images, test_set.images, verbose=0)
        print(f"{name:<10} {model.count_params():>8} {error:>26.5f}")
    print(f"{'no code':<10} {'':>8} {test_set.images.var(axis=0).mean():>26.5f}")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
