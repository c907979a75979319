"""What the examples compare SharedDense with: a Dense layer, called on each input by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np


def reused(units: int, **arguments) -> Callable:
    """In the place of SharedDense(units, ...): one Dense, called input by input."""
    dense = keras.layers.Dense(units, **arguments)
    return lambda inputs: keras.tree.map_structure(dense, inputs)


def allowed_difference(steps: Sequence[int] | np.ndarray, terms: int) -> np.ndarray:
    """How far the losses of two correct trainings may be apart, relative to the first.

    A product of K terms in float32 is off by at most about K u of its size, with u = 2^-24 (Higham,
    Accuracy and Stability of Numerical Algorithms, 2002, ch. 3). Every step makes such errors anew,
    and where nothing jumps (smooth activations) and the loss falls steadily, later steps do not
    make old errors larger: after T steps they add up to T K u at most. Mostly they cancel, and the
    difference is thousands of times smaller. A wrong gradient, even of one bias, shows in the first
    epochs, where the bound is tightest.

    Adam divides a gradient by its size, so that a rounding error where one should be 0 would become
    a whole step, far beyond this bound. Gradients that cancel between inputs are exactly 0 with
    both (docs/design.md, promise 3).

    Args:
        steps: how many steps came before each loss, its own among them.
        terms: K, the largest width of a layer's inputs.
    """
    return np.asarray(steps) * terms * 2.0**-24


def compare(shared: Sequence[float], plain: Sequence[float], steps: int, terms: int) -> bool:
    """Prints the losses per epoch of both trainings, and whether they agree; returns that.

    Args:
        shared: the losses with SharedDense.
        plain: the losses without.
        steps: of an epoch.
        terms: as for `allowed_difference`.
    """
    print(f"{'epoch':>6} {'SharedDense':>12} {'plain reuse':>12}  (loss)")
    shown = sorted({0, len(shared) // 4, len(shared) // 2, len(shared) - 1})
    for epoch in shown:
        print(f"{epoch + 1:>6} {shared[epoch]:>12.7f} {plain[epoch]:>12.7f}")
    difference = np.abs(np.subtract(shared, plain)) / abs(plain[0])
    bound = allowed_difference(steps * np.arange(1, len(plain) + 1), terms)
    agree = bool(np.all(difference <= bound))  # NaN is no agreement
    print(
        f"largest difference {difference.max():.1e} of the first loss, bound {bound[-1]:.1e}: "
        f"{'OK' if agree else 'FAIL'}"
    )
    return agree
