"""The core where inputs choose: which bias each uses, and whether it trains the kernel."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import Oracle

from shared_dense import _core

every_isa = pytest.mark.parametrize("isa", _core.supported_isas())
every_way = pytest.mark.parametrize("transpose", [False, True])
NAMES = ["gelu", "linear", "tanh", "relu", "linear", "silu"]
BIAS_OF = [1, -1, 0, 1, -1, 0]
TRAINS = [True, False, True, True, False, True]


def normal(rng, dtype, *shape):
    return rng.standard_normal(shape).astype(dtype)


def assert_bits(got, wanted):
    np.testing.assert_array_equal(got, wanted, strict=True)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(wanted))


@every_isa
@every_way
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize(
    "rows", [(3, 1, 0, 7, 5, 2), (0, 4, 0, 0, 9, 0), (130, 300, 70, 1, 2, 200)], ids=str
)
def test_values(rows, reference, dtype, transpose, isa, rng):
    """The two oracles and the core agree."""
    k, u = 19, 21
    xs, dys = ([normal(rng, dtype, n, width) for n in rows] for width in (k, u))
    kernel = normal(rng, dtype, *((u, k) if transpose else (k, u)))
    biases = [normal(rng, dtype, u) for _ in range(2)]
    exact = Oracle(xs, kernel, biases, NAMES, transpose, BIAS_OF, TRAINS)
    how = {"isa": isa, "reference": reference, "bias_of": BIAS_OF}
    ys, zs = _core.forward(xs, kernel, biases, NAMES, transpose, pre_activations=True, **how)
    saved = [z if name in ("gelu", "silu") else y for y, z, name in zip(ys, zs, NAMES, strict=True)]

    got = _core.backward(
        xs, dys, saved, kernel, biases, NAMES, transpose, wants_dx=[True] * 6, dbias_count=2,
        trains_kernel=TRAINS, **how,
    )  # fmt: skip

    for i, wanted in enumerate(exact.forward()):
        wanted.check(ys[i], f"y[{i}]")
    wanted = exact.backward(dys)
    wanted["dkernel"].check(got["dkernel"], "dkernel")
    for name in ("dx", "dbias"):
        for i, (value, one) in enumerate(zip(got[name], wanted[name], strict=True)):
            one.check(value, f"{name}[{i}]")


@every_isa
@every_way
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("size", [((5, 2, 9), 33, 17), ((300, 77, 301), 40, 450)], ids=str)
def test_who_takes_no_part_does_not_show(size, dtype, transpose, isa, rng):
    """Bits of the products over those that do, whatever the others hold, on any threads."""
    rows, k, u = size
    xs, dys = ([normal(rng, dtype, n, width) for n in rows] for width in (k, u))
    saved = [normal(rng, dtype, n, u) for n in rows]
    kernel = normal(rng, dtype, *((u, k) if transpose else (k, u)))

    def backward(part, wants_dx=True, **how):
        return _core.backward(
            [xs[i] for i in part], [dys[i] for i in part], [saved[i] for i in part], kernel,
            activations=["tanh"], transpose_kernel=transpose, wants_dx=[wants_dx] * len(part),
            dbias_count=1, isa=isa, **how,
        )  # fmt: skip

    alone, everyone = backward([0, 2]), backward([0, 1, 2])
    for threads in (1, 2, 2):
        got = backward(
            [0, 1, 2], trains_kernel=[True, False, True], bias_of=[0, -1, 0], threads=threads
        )
        assert_bits(got["dkernel"], alone["dkernel"])
        assert_bits(got["dbias"][0], alone["dbias"][0])
        for dx, wanted in zip(got["dx"], everyone["dx"], strict=True):
            assert_bits(dx, wanted)
    assert np.any(everyone["dkernel"] != alone["dkernel"])

    xs[1][:], dys[1][:], saved[1][:] = np.nan, np.inf, np.nan
    got = backward([0, 1, 2], False, trains_kernel=[True, False, True], bias_of=[0, -1, 0])
    assert_bits(got["dkernel"], alone["dkernel"])
    assert_bits(got["dbias"][0], alone["dbias"][0])


@every_isa
@every_way
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_kernel_that_nobody_trains_has_a_gradient_of_zeros(dtype, transpose, isa, rng):
    xs, dys = ([normal(rng, dtype, n, width) for n in (3, 300)] for width in (9, 7))
    kernel = normal(rng, dtype, *((7, 9) if transpose else (9, 7)))
    got = _core.backward(
        xs, dys, dys, kernel, transpose_kernel=transpose, wants_dx=[False] * 2,
        trains_kernel=[False] * 2, isa=isa,
    )  # fmt: skip
    assert_bits(got["dkernel"], np.zeros_like(kernel))
