"""bfloat16 and half: the bits of the float32 core on the same numbers, rounded once."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from shared_dense import _core

NAMES = list(_core.activations())
ISAS = _core.supported_isas()
PRE_ACTIVATION = {name for name in NAMES if _core.activations()[name] == "pre_activation"}

every_isa = pytest.mark.parametrize("isa", ISAS)
every_half = pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16], ids=["half", "bf16"])
# One row, a stream, its ragged edge, shared tiles, deep reductions in several blocks, columns and
# rows dealt to two threads, rows that leave L2, sums of several chunks, empty ends.
SIZES = [
    ((1,), 1, 1),
    ((1,), 33, 64),
    ((2, 0, 1), 70, 67),
    ((9, 7), 131, 257),
    ((27, 29), 64, 32),
    ((13, 1, 0, 15), 16, 17),
    ((300, 1, 75), 67, 3),
    ((5, 1), 2803, 40),
    ((130,), 1900, 301),
    ((50, 30), 3600, 301),
    ((500, 0, 300), 600, 301),
    ((4000, 0, 1700), 61, 37),
    ((700, 331), 10, 6),
    ((0, 0), 4, 3),
    ((2, 3), 0, 5),
]


def normal(rng, half, *shape):
    return rng.standard_normal(shape).astype(np.float32).astype(half)


def handed_over(arrays):
    """As the module takes them: bfloat16 by its bits."""
    return [a.view(np.uint16) if a.dtype == ml_dtypes.bfloat16 else a for a in arrays]


def assert_bits(got, expected):
    got = np.asarray(got).view(np.uint16)
    expected = np.asarray(expected).view(np.uint16)
    assert got.shape == expected.shape
    wrong = np.flatnonzero(got != expected)
    assert wrong.size == 0, f"{wrong.size} of {got.size} differ, the first at {wrong[0]}"


def floats(arrays):
    return [a.astype(np.float32) for a in arrays]


@pytest.mark.parametrize("threads", [1, 2])
@every_isa
@every_half
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_forward_is_float32_rounded_once(size, transpose, half, isa, threads, rng):
    rows, k, u = size
    xs = [normal(rng, half, r, k) for r in rows]
    kernel = normal(rng, half, *((u, k) if transpose else (k, u)))
    biases = [normal(rng, half, u) for _ in rows]
    names = [NAMES[i % len(NAMES)] for i in range(len(rows))]
    how = {
        "activations": names,
        "transpose_kernel": transpose,
        "pre_activations": True,
        "threads": threads,
        "isa": isa,
    }
    want = _core.forward(floats(xs), *floats([kernel]), floats(biases), **how)
    got = _core.forward(handed_over(xs), *handed_over([kernel]), handed_over(biases), **how)
    for wanted, values in zip(want, got, strict=True):
        for y, z in zip(wanted, values, strict=True):
            assert_bits(z, y.astype(half))


@pytest.mark.parametrize("threads", [1, 2])
@every_isa
@every_half
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gradients_are_float32_rounded_once(size, transpose, half, isa, threads, rng):
    rows, k, u = size
    n = len(rows)
    xs, dys, saved = ([normal(rng, half, r, width) for r in rows] for width in (k, u, u))
    kernel = normal(rng, half, *((u, k) if transpose else (k, u)))
    for dbias_count in (1, n):
        how = {
            "activations": [NAMES[(i + 1) % len(NAMES)] for i in range(n)],
            "transpose_kernel": transpose,
            "wants_dx": [i != 1 for i in range(n)],
            "dbias_count": dbias_count,
            "threads": threads,
            "isa": isa,
        }
        parts = [xs, dys, saved]
        want = _core.backward(*map(floats, parts), *floats([kernel]), **how)
        got = _core.backward(*map(handed_over, parts), *handed_over([kernel]), **how)
        assert_bits(got["dkernel"], want["dkernel"].astype(half))
        for name in ("dx", "dbias"):
            for value, wanted in zip(got[name], want[name], strict=True):
                assert_bits(value, wanted.astype(half))


@every_isa
@every_half
def test_every_value_is_converted_and_rounded(half, isa):
    """All 65536 numbers, times some: subnormal, tied, overflowing or not."""
    xs = np.arange(1 << 16, dtype=np.uint16).view(half)[:, None]
    finite = np.isfinite(xs.astype(np.float32)).ravel()
    factors = [1, -1, 0.5, 1.5, 3, 1 / 3, 2.0**-9, 1.125 * 2.0**-14, 2.0**-24, 255, 2.0**15]
    kernel = np.array([factors], np.float32).astype(half)
    (got,), _ = _core.forward(handed_over([xs]), *handed_over([kernel]), isa=isa)
    with np.errstate(all="ignore"):
        # Exact in float64, then rounded to float32 as a fused multiply-add rounds it; the baseline
        # rounds the product before it adds zero.
        between = np.float32 if isa == "generic" else np.float64
        exact = xs.astype(between) * kernel.astype(between) + between(0)
        want = exact.astype(np.float32).astype(half)
    assert_bits(np.asarray(got)[finite], want[finite])
    got = np.asarray(got).view(half).astype(np.float32)[~finite]
    want = want.astype(np.float32)[~finite]
    np.testing.assert_array_equal(got, want)  # infinities, and NaN for NaN


@every_isa
@every_half
def test_rounding_is_to_nearest_even(half, isa):
    """A kernel of three terms makes float32 sums just on, above and below a tie."""
    u = float(ml_dtypes.finfo(half).eps)
    terms = np.array([[1, u / 2, 0], [1, u / 2, u**3], [1 + u, u / 2, 0], [1, u / 2, -(u**3)]])
    xs = terms.astype(np.float32).astype(half)
    kernel = np.ones((3, 1), np.float32).astype(half)
    (got,), _ = _core.forward(handed_over([xs]), *handed_over([kernel]), isa=isa)
    sums = terms.astype(np.float32).cumsum(axis=1, dtype=np.float32)[:, -1:]
    assert_bits(got, sums.astype(half))
    assert np.asarray(got).view(half).astype(np.float64)[0, 0] == 1  # the tie went to even


@every_isa
def test_no_oracle_in_half(isa):
    x = np.ones((1, 1), np.float16)
    with pytest.raises(ValueError, match="no oracle"):
        _core.forward([x], x, reference=True, isa=isa)
