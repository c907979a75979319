"""Whoever calls says how numbers round and whether subnormal ones are 0: on every thread."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from shared_dense import _core

# Products of these are subnormal in float32; a sum of 64 still is.
TINY = np.float32(1e-20)
ROWS, K, U = 6000, 64, 64


def products(threads):
    """Y, dX and dW, whose rows are all equal; each has more work than one thread is worth."""
    x, dy = np.full((ROWS, K), TINY), np.full((ROWS, U), TINY)
    kernel = np.full((K, U), TINY)
    (y,), _ = _core.forward([x], kernel, threads=threads)
    found = _core.backward([x], [dy], [dy], kernel, wants_dx=[True], threads=threads)
    return y, found["dx"][0], found["dkernel"]


@pytest.mark.parametrize("flushes", [False, True])
@pytest.mark.parametrize("threads", [2, 3])
def test_helpers_compute_in_the_callers_mode(threads, flushes):
    """TensorFlow's threads take subnormal numbers for 0: so does what `tf.py_function` calls."""
    several, alone = [], []

    def call():
        # Helpers that come too late do nothing: now and then one is in time.
        several.extend(products(threads) for _ in range(20))
        alone.append(products(1))
        return np.float32(np.float32(1e-30) * np.float32(1e-10))

    seen = tf.function(lambda: tf.py_function(call, [], tf.float32))() if flushes else call()

    assert (seen == 0) == flushes  # by NumPy, on the caller's thread
    for made in several:
        for got, wanted in zip(made, alone[0], strict=True):
            np.testing.assert_array_equal(got, wanted)
    y, dx, dkernel = alone[0]
    for sums, terms in ((y, K), (dx, U), (dkernel, ROWS)):
        assert np.unique(sums).size == 1
        assert (sums.flat[0] == 0) == flushes
        if not flushes:
            np.testing.assert_allclose(sums.flat[0], terms * 1e-40, 1e-4)
