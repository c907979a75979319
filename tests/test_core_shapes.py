"""Any call at all against the oracle: sizes, dtypes, options and threads that nobody chose."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_core import DTYPES, NAMES, Call

from shared_dense import _core

few_or_many = st.integers(0, 20) | st.integers(0, 300)


@st.composite
def calls(draw):
    rows = draw(st.lists(few_or_many, min_size=1, max_size=6))
    n = len(rows)
    names = draw(st.lists(st.sampled_from(NAMES), min_size=n, max_size=n))
    return Call(
        rows,
        draw(few_or_many),
        draw(few_or_many),
        draw(st.sampled_from(DTYPES)),
        names=names if draw(st.booleans()) else names[:1],
        biases=draw(st.sampled_from([0, 1, n])),
        transpose=draw(st.booleans()),
    )


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(calls(), st.sampled_from(_core.supported_isas()), st.integers(1, 3))
def test_any_call(call, isa, threads):
    call.check(isa=isa, threads=threads)


def test_rows_without_bytes_are_not_walked():
    """However many: their sums are as empty as they are."""
    x, kernel = np.zeros((10**15, 0), np.float32), np.zeros((0, 0), np.float32)
    grads = _core.backward([x], [x], [x], kernel, wants_dx=[True], dbias_count=1)
    assert grads["dbias"][0].shape == (0,)
    assert grads["dx"][0].shape == x.shape
