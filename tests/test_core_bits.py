"""What the core promises bit by bit: row invariance, and the one chain that each element is."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from shared_dense import _core

NAMES = list(_core.activations())
PRE_ACTIVATION = {name for name in NAMES if _core.activations()[name] == "pre_activation"}
ISAS = _core.supported_isas()
# The baseline has no fused multiply-add: it rounds twice, and has bits of its own.
FUSED = [isa for isa in ISAS if isa != "generic"]
# With 64 rows, above the 5 M multiply-adds where a second thread is asked.
K, U = 450, 457
# More than one block of the reduction, which is up to 2560 long for an L1 cache of 64 KiB.
LONG = 2803
# 64 rows of this are more than half of an L2 cache of 4 MiB: another path than one row takes.
DEEP = 10007

# Most rows per partial sum of dW and db, and fewest of an input that has partial sums of its own:
# part of the contract, for other numbers give other bits.
CHUNK, OWN = 256, 64

every_isa = pytest.mark.parametrize("isa", ISAS)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def normal(rng, dtype, *shape):
    return rng.standard_normal(shape).astype(dtype)


def assert_bits(got, expected):
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    wrong = np.flatnonzero((got != expected) | (np.signbit(got) != np.signbit(expected)))
    assert wrong.size == 0, (
        f"{wrong.size} of {got.size} differ, the first at {wrong[0]}: "
        f"{float(got.flat[wrong[0]]).hex()} instead of {float(expected.flat[wrong[0]]).hex()}"
    )


def forward(xs, kernel, **how):
    return _core.forward(xs, kernel, **how)[0]


def forward_transposed(xs, kernel, **how):
    return _core.forward(xs, kernel.T.copy(), transpose_kernel=True, **how)[0]


def input_gradients(dys, kernel, **how):
    """dy . kernel^T; here and below the kernel is [K, U], however it is handed over."""
    xs = [np.zeros((len(dy), kernel.shape[0]), kernel.dtype) for dy in dys]
    kernel = kernel.T.copy() if how.get("transpose_kernel") else kernel
    grads = _core.backward(
        xs, dys, dys, kernel, wants_dx=[True] * len(dys), wants_dkernel=False, **how
    )
    return grads["dx"]


def input_gradients_transposed(dys, kernel, **how):
    return input_gradients(dys, kernel, transpose_kernel=True, **how)


FORWARD = (forward, forward_transposed)
BACKWARD = (input_gradients, input_gradients_transposed)


@every_isa
@every_dtype
@pytest.mark.parametrize("product", FORWARD + BACKWARD)
@pytest.mark.parametrize("size", [(K, U), (DEEP, 67)], ids=str)
def test_a_row_has_its_bits_in_any_company(product, size, dtype, isa, rng):
    """Alone, or at any place among any rows of any inputs, on one thread and on two."""
    depth, columns = size
    kernel = normal(rng, dtype, *((depth, columns) if product in FORWARD else (columns, depth)))
    rows = normal(rng, dtype, 64, depth)
    alone = np.concatenate([product([row[None]], kernel, isa=isa)[0] for row in rows])
    for threads in (1, 2):
        how = {"isa": isa, "threads": threads}
        assert_bits(product([rows], kernel, **how)[0], alone)
        one_each = product([rows[i : i + 1] for i in range(64)], kernel, **how)
        assert_bits(np.concatenate(one_each), alone)
        for _ in range(3):
            order = rng.permutation(64)
            cuts = np.sort(rng.integers(0, 65, rng.integers(1, 9)))  # some inputs have no rows
            parts = np.split(rows[order], cuts)
            assert_bits(np.concatenate(product(parts, kernel, **how)), alone[order])
        strange = [normal(rng, dtype, 5, rows.shape[1]) * 1e30, rows[7:11]]
        assert_bits(product(strange, kernel, **how)[1], alone[7:11])


@every_dtype
@pytest.mark.parametrize("product", FORWARD + BACKWARD)
@pytest.mark.parametrize(
    ("rows", "size"),
    [
        (3, (1200, 1300)),
        (61, (600, 1100)),
        (900, (300, 100)),
        (9000, (67, 20)),
        (30_000, (67, 2)),
    ],
    ids=["stream", "by columns", "by rows", "in place", "flipped"],
)
def test_bits_know_no_number_of_threads(product, rows, size, dtype, rng):
    """Few workers pack a copy each, more of them share one: no bit differs."""
    depth, columns = size
    kernel = normal(rng, dtype, *((depth, columns) if product in FORWARD else (columns, depth)))
    parts = np.split(normal(rng, dtype, rows, depth), [1, rows // 2])
    alone = product(parts, kernel, threads=1)
    for threads in (2, 4, 7):
        for got, want in zip(product(parts, kernel, threads=threads), alone, strict=True):
            assert_bits(got, want)


@every_isa
@every_dtype
def test_an_element_has_its_bits_beside_any_other_columns(dtype, isa, rng):
    """So a kernel cut in pieces, packed in chunks, or stored transposed gives the same."""
    kernel = normal(rng, dtype, DEEP, 211)
    assert kernel.nbytes > 8 << 20
    x = normal(rng, dtype, 64, DEEP)
    for threads in (1, 2):
        how = {"isa": isa, "threads": threads}
        (y,) = forward([x], kernel, **how)
        assert_bits(forward([x], kernel.T.copy(), transpose_kernel=True, **how)[0], y)
        pieces = np.split(kernel, [1, 8, 31, 100], axis=1)
        parts = [forward([x], np.ascontiguousarray(piece), **how)[0] for piece in pieces]
        assert_bits(np.concatenate(parts, axis=1), y)


@every_isa
@every_dtype
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("units", [450, 100], ids=["dealt by blocks", "dealt by chunks"])
def test_kernel_and_bias_gradients_know_no_threads(dtype, isa, transpose, units, rng):
    """The same call on any number of threads, any number of times."""
    kernel = normal(rng, dtype, 40, units)
    kernel = kernel.T.copy() if transpose else kernel
    x, dy, saved = (normal(rng, dtype, 3300, n) for n in (40, units, units))
    bias = np.zeros(units, dtype)

    def gradients(cuts, threads):
        parts = [np.split(a, cuts) for a in (x, dy, saved)]
        grads = _core.backward(
            *parts, kernel, [bias], ["gelu"], transpose,
            wants_dx=[False] * len(parts[0]), dbias_count=1, threads=threads, isa=isa,
        )  # fmt: skip
        return grads["dkernel"], grads["dbias"][0]

    for cuts in ([], [1], [255, 256, 257, 257, 512], sorted(rng.integers(0, 3301, 20))):
        expected = gradients(cuts, 1)
        for threads in (1, 2, 2, 3):
            for got, want in zip(gradients(cuts, threads), expected, strict=True):
                assert_bits(got, want)


@every_dtype
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.skipif(len(FUSED) < 2, reason="one instruction set with fused multiply-adds here")
def test_instruction_sets_with_fma_agree(name, dtype, rng):
    xs = [normal(rng, dtype, rows, 401) for rows in (3, 0, 290)]
    dys = [normal(rng, dtype, rows, 37) for rows in (3, 0, 290)]
    kernel, bias = normal(rng, dtype, 401, 37) / 20, normal(rng, dtype, 37)
    results = []
    for isa in FUSED:
        ys, zs = _core.forward(xs, kernel, [bias], [name], pre_activations=True, isa=isa)
        saved = zs if name in PRE_ACTIVATION else ys
        grads = _core.backward(
            xs, dys, saved, kernel, [bias], [name], wants_dx=[True] * 3, dbias_count=1, isa=isa
        )
        results.append([*ys, *zs, *grads["dx"], grads["dkernel"], *grads["dbias"]])
    for other in results[1:]:
        for got, expected in zip(other, results[0], strict=True):
            assert_bits(got, expected)


@pytest.mark.builds
def test_what_is_for_tests_is_taken_by_name_only():
    """Whatever stands behind generic, which runs everywhere."""
    if "avx2_wide" not in ISAS:
        pytest.skip("needs AVX2 and a build with SHARED_DENSE_TEST_ISAS")
    program = "from shared_dense import _core; print(_core.isa())"

    def chosen(**forced):
        environment = {k: v for k, v in os.environ.items() if k != "SHARED_DENSE_ISA"} | forced
        command = [sys.executable, "-c", program]
        return subprocess.check_output(command, env=environment, text=True).strip()

    assert chosen() == ISAS[0]
    assert _core.built_isas()[-2:] == ["generic", "avx2_wide"]
    assert chosen(SHARED_DENSE_ISA="avx2_wide") == "avx2_wide"


@every_isa
@every_dtype
@pytest.mark.parametrize("name", NAMES)
def test_an_activation_has_its_bits_at_any_place_in_a_row(name, dtype, isa, rng):
    """In whole vectors or in what is left over; its derivative too."""
    one = np.ones((1, 1), dtype)
    zs, dy = normal(rng, dtype, 1, 200) * 3, normal(rng, dtype, 1, 200)

    def results(at):
        z, g = np.ascontiguousarray(zs[:, at]), np.ascontiguousarray(dy[:, at])
        bias = np.zeros(z.shape[1], dtype)
        (y,), (kept,) = _core.forward([one], z, [bias], [name], pre_activations=True, isa=isa)
        assert_bits(kept, z)  # 1 * z + 0
        saved = [kept if name in PRE_ACTIVATION else y]
        grads = _core.backward(
            [one], [g], saved, z, [bias], [name], wants_dx=[False], dbias_count=1, isa=isa
        )
        return y[0], grads["dbias"][0]  # of one row: dy * f'(z) itself

    whole = results(slice(None))
    alone = [results(slice(i, i + 1)) for i in range(200)]
    for i, parts in enumerate(zip(*alone, strict=True)):
        assert_bits(np.concatenate(parts), whole[i])
    for got, expected in zip(results(slice(3, 96)), whole, strict=True):
        assert_bits(got, expected[3:96])


def fma32(a, b, c):
    """a * b + c of float32 arrays, rounded once.

    The product is exact in float64. The sum is rounded to odd there: truncated, its last bit set
    where anything was cut off. That keeps it on its side of every float32 tie, so the second
    rounding is the only one that counts (Boldo and Melquiond, Emulation of FMA and Correctly
    Rounded Sums, 2008).
    """
    product = np.float64(a) * np.float64(b)
    c = np.float64(c)
    total = product + c
    back = total - product
    error = (product - (total - back)) + (c - back)  # exactly what `total` lacks
    bits = np.asarray(total).view(np.int64)
    step = np.where((error > 0) == (total > 0), 1, -1)
    return np.where((error != 0) & (bits % 2 == 0), bits + step, bits).view(np.float64).astype("f4")


def fma64(a, b, c):
    """a * b + c of float64 arrays, rounded once: Python divides integers exactly."""
    exact = np.vectorize(lambda a, b, c: float(Fraction(a) * Fraction(b) + Fraction(c)))
    return exact(a, b, c)


def chain(a, b, dtype, isa):
    """sum over k of a[m, k] * b[k, n], as one chain over ascending k from zero."""
    if isa not in FUSED:
        step = lambda a, b, c: a * b + c  # noqa: E731
    else:
        step = fma32 if dtype == "float32" else fma64
    c = np.zeros((a.shape[0], b.shape[1]), dtype)
    for k in range(a.shape[1]):
        c = step(a[:, k, None], b[None, k], c)
    return c


def test_the_emulated_fma_rounds_once():
    """Against fractions, on sums that float64 rounds onto a float32 tie, and on plain ones."""
    rng = np.random.default_rng(0)
    a, b = (normal(rng, "float32", 300) for _ in range(2))
    c = normal(rng, "float32", 300) * np.float32(2.0) ** rng.integers(-40, 40, 300)
    tie = 1 + np.float32(2.0) ** -12  # its square is 1 + 2^-11 + 2^-24: on a tie
    a[:4], b[:4], c[:4] = tie, [tie, -tie, tie, -tie], np.array([1, 1, -1, -1]) * np.float32(2e-30)
    got = fma32(a, b, c)
    assert (got != (np.float64(a) * b + c).astype(np.float32)).any(), "the ties are none"
    for i in range(len(a)):
        exact = Fraction(float(a[i])) * Fraction(float(b[i])) + Fraction(float(c[i]))
        near = [np.nextafter(got[i], np.float32(s * np.inf)) for s in (-1, 1)]
        distance = abs(Fraction(float(got[i])) - exact)
        assert all(distance < abs(Fraction(float(n)) - exact) for n in near), (a[i], b[i], c[i])


@every_isa
@every_dtype
@pytest.mark.parametrize("depth", [1, 2, 9, 64, LONG])
def test_y_is_one_chain_over_ascending_k(depth, dtype, isa, rng):
    """Also where the partial sums went through memory between two blocks of k."""
    rows, units = (17, 37) if dtype == "float32" else (3, 4)
    x, kernel = normal(rng, dtype, rows, depth), normal(rng, dtype, depth, units)
    bias = normal(rng, dtype, units)
    z = chain(x, kernel, dtype, isa)
    (y,), _ = _core.forward([x], kernel, isa=isa)
    assert_bits(y, z)
    (y,), (kept,) = _core.forward([x], kernel, [bias], ["relu"], pre_activations=True, isa=isa)
    assert_bits(kept, z + bias)
    assert_bits(y, np.where(z + bias < 0, 0, z + bias).astype(dtype))


@every_isa
@every_dtype
@pytest.mark.parametrize("units", [9, LONG])
def test_dx_is_one_chain_over_ascending_units(units, dtype, isa, rng):
    rows, in_features = (17, 37) if dtype == "float32" else (3, 4)
    dy, kernel = normal(rng, dtype, rows, units), normal(rng, dtype, in_features, units)
    (dx,) = input_gradients([dy], kernel, isa=isa)
    assert_bits(dx, chain(dy, kernel.T, dtype, isa))


def in_order(parts):
    return functools.reduce(np.add, parts)


def sums_of(rows):
    """Lists of (first, end): the chunks of stacked rows that make the sums of dW. The contract."""
    sums, end, shared = [], 0, False
    for n in rows:
        own = n >= OWN
        for row in range(n):
            if own and row % CHUNK == 0:
                if row == 0:
                    sums.append([])
                sums[-1].append([end, end])
            elif not own and (not shared or end - sums[-1][-1][0] == CHUNK):
                sums.append([[end, end]])
            end += 1
            sums[-1][-1][1] = end
            shared = not own
    return sums


@every_isa
@every_dtype
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize(
    "rows",
    [
        (5,),
        (256,),
        (100, 157),
        (300, 0, 300, 200),
        (63, 64, 3, 1, 255, 0, 60, 250),
        (600, 300, 64, 9, 257),
        (1,) * 300,
    ],
    ids=lambda rows: str(rows[:8]),
)
def test_dkernel_adds_sums_of_inputs_in_order(rows, transpose, dtype, isa, rng):
    """A chain in each chunk; long inputs have sums of their own, short ones share chunks."""
    in_features, units = (9, 35) if dtype == "float32" else (3, 4)
    xs = [normal(rng, dtype, n, in_features) for n in rows]
    dys = [normal(rng, dtype, n, units) for n in rows]
    kernel = normal(rng, dtype, *((units, in_features) if transpose else (in_features, units)))
    got = _core.backward(
        xs, dys, dys, kernel, transpose_kernel=transpose, wants_dx=[False] * len(rows), isa=isa
    )
    x, dy = np.concatenate(xs), np.concatenate(dys)
    dkernel = in_order(
        [
            in_order([chain(x[a:b].T, dy[a:b], dtype, isa) for a, b in chunks])
            for chunks in sums_of(rows)
        ]
    )
    assert_bits(got["dkernel"], dkernel.T if transpose else dkernel)


@every_isa
@every_dtype
@pytest.mark.parametrize(
    "rows", [(5,), (256,), (257, 1, 600), (300, 0, 300, 200), (1, 2, 0, 1)], ids=str
)
def test_dbias_adds_the_sums_of_inputs_in_order(rows, dtype, isa, rng):
    units = 150
    xs = [normal(rng, dtype, n, 2) for n in rows]
    dys = [normal(rng, dtype, n, units) for n in rows]
    kernel, bias = normal(rng, dtype, 2, units), np.zeros(units, dtype)
    got = _core.backward(
        xs, dys, dys, kernel, [bias], wants_dx=[False] * len(rows), dbias_count=1, isa=isa
    )

    sums = [
        in_order([in_order(dy[first : first + CHUNK]) for first in range(0, len(dy), CHUNK)])
        for dy in dys
        if len(dy)
    ]
    assert_bits(got["dbias"][0], in_order(sums))
