"""The op library, and what TensorFlow has to know to differentiate and vectorize its ops."""

from __future__ import annotations

import functools

from shared_dense.runtime import loader


@functools.cache
def load() -> loader.Library:
    """Opens the op library on the first call, and registers what belongs to it.

    A copy of this package that has no library registers nothing: of two registrations TensorFlow
    keeps the first.

    Raises:
        ValueError: as `loader.load`.
    """
    library = loader.load()
    if library.available:
        from shared_dense.ops import flops, gradients, vectorized  # noqa: F401
    return library
