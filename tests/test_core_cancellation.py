"""What cancels between two inputs adds up to exactly 0 in the core."""

from __future__ import annotations

import numpy as np
import pytest
from test_core_bits import OWN, every_dtype, every_isa, normal

from shared_dense import _core


@every_isa
@every_dtype
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [(5, 3), (40, 100), (129, 450)], ids=str)
def test_what_cancels_between_two_inputs_is_zero(size, threads, dtype, isa, rng):
    """Of as many rows, dY of one the negative of the other's, others beside them."""
    in_features, units = size
    kernel = normal(rng, dtype, in_features, units)
    for rows in (1, 2, 17, 63, 64, 65, 255, 256, 257, 300):
        x, dy = normal(rng, dtype, rows, in_features), normal(rng, dtype, rows, units)
        other = normal(rng, dtype, 3, in_features), np.zeros((3, units), dtype)
        got = _core.backward(
            [other[0], x, x], [other[1], dy, -dy], [other[1], dy, dy], kernel,
            [kernel[0]], wants_dx=[True] * 3, dbias_count=1, threads=threads, isa=isa,
        )  # fmt: skip
        assert not got["dbias"][0].any(), rows
        if rows >= OWN:
            assert not got["dkernel"].any(), rows
