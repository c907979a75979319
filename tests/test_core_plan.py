"""The plan is a pure function of sizes and caches; these hold for whatever sizes and caches."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from shared_dense import _core

# Calls with no rows or no columns never reach the plan. The product of the sizes fits an int64 for
# any three matrices that fit a memory of 4 TiB.
LARGEST_MATRIX = 1 << 40
SERIAL_WORK = 12 << 20
PACKED_KERNEL = 8 << 20
PARTIAL_SUMS, SMALL_SUM = 4 << 20, 64 << 10
# MR, NR and item size of every micro-kernel there is (NR is two vectors), and one like none.
MICROS = [
    (mr, 2 * vector // item, item)
    for mr, vector in ((14, 64), (6, 32), (4, 16), (8, 16))
    for item in (4, 8)
] + [(5, 7, 4)]

sizes = st.integers(1, 70) | st.integers(1, 5000) | st.integers(0, 32).map(lambda n: 1 << n)
micros = st.sampled_from(MICROS)
caches = st.tuples(st.integers(0, 1 << 20), st.integers(0, 1 << 26))
threads = st.integers(1, 256)
a_laptop = (32 << 10, 1 << 20)
any_plan = settings(max_examples=300, deadline=None, derandomize=True, database=None)


def assume_possible(m, k, n):
    assume(max(m * k, k * n, m * n) <= LARGEST_MATRIX)


def plan_rows(m, k, n, *rest):
    return _core.plan_rows(m, k, n, m, False, *rest)


def plan_rows_transposed(m, k, n, *rest):
    return _core.plan_rows(m, k, n, m, True, *rest)


def fits(items, item, cache, fewest):
    """Whether a packed block fits the cache, or is the smallest there is."""
    return items * item <= cache or items <= fewest


@any_plan
@given(
    st.tuples(sizes, sizes | st.just(0), sizes),
    sizes,
    st.booleans(),
    micros,
    caches,
    threads,
)
@example((1, 1, 1), 9, False, MICROS[0], a_laptop, 1)
@example((1, 0, 1), 9, False, MICROS[0], a_laptop, 2)
@example((1, 0, 999), 9, False, MICROS[0], a_laptop, 2)
@example((1, 1, 1), 9, False, MICROS[0], (0, 0), 256)
@example((16, 99, 1 << 20), 9, False, MICROS[0], a_laptop, 2)
@example((4097, 1103, 2099), 9, False, MICROS[0], a_laptop, 2)
@example((1, 1 << 22, 3), 9, True, MICROS[1], a_laptop, 16)
def test_rows_blocks(sizes, run, transposed, micro, caches, threads):
    assume_possible(*sizes)
    p = _core.plan_rows(*sizes, run, transposed, *micro, *caches, threads)
    (m, k, n), (mr, nr, item), (l1, l2) = sizes, micro, caches
    depth, rows, columns, chunk = (
        p[name] for name in ("depth", "row_block", "column_block", "column_chunk")
    )

    assert depth >= 1
    assert rows >= 1
    assert rows % mr == 0
    assert rows < m + mr, "a block of rows that are not there"
    assert columns >= 1
    assert columns % nr == 0
    assert columns <= chunk
    assert chunk % nr == 0
    assert chunk < n + nr

    if p["path"] == "narrow":
        assert n <= nr
        assert run >= mr, "short inputs would each fill a tile alone"
        assert depth == max(k, 1)
        assert depth * nr * item <= l2, "the packed kernel leaves L2"
    else:
        assert fits(depth * mr, item, l1, 64 * mr), "a panel of rows leaves L1"
    if p["path"] in ("stream", "few"):
        assert rows >= m
    if p["path"] == "few":
        assert rows * k * item <= l2, "the packed rows leave L2"
    if p["path"] == "stream":
        assert m * k * item <= PACKED_KERNEL
        assert not transposed
        assert fits(m * columns, item, l2 / 2, m * nr), "the sums leave L2"
    if p["path"] == "many":
        assert chunk * k * item <= PACKED_KERNEL or chunk == nr
        assert fits(depth * rows, item, l2 / 2, depth * mr), "the packed rows leave L2"
        assert fits(depth * columns, item, l2 / 2, depth * nr), "the packed kernel leaves L2"

    if threads == 1 or m * k * n <= SERIAL_WORK:
        assert not p["parallel"]


@any_plan
@given(st.tuples(sizes, sizes, sizes), micros, caches, threads)
@example((1, 1, 1), MICROS[0], a_laptop, 1)
@example((1, 1, 1), MICROS[0], (0, 0), 256)
@example((1, 1 << 22, 3), MICROS[1], a_laptop, 16)
def test_sum_blocks(sizes, micro, caches, threads):
    assume_possible(*sizes)
    p = _core.plan_sum(*sizes, *micro, *caches, threads)
    (m, r, n), (mr, nr, item), (_, l2) = sizes, micro, caches
    depth = min(r, _core.row_chunk)

    if p["batch"] > 0:
        assert p["parallel"]
        assert p["batch"] <= math.ceil(r / _core.row_chunk)
        assert p["batch"] * m * n * item <= max(PARTIAL_SUMS, threads * SMALL_SUM)
        assert p["row_block"] >= m
        assert p["column_block"] >= n
        return
    for block, size, unit in ((p["row_block"], m, mr), (p["column_block"], n, nr)):
        assert block >= 1
        assert block % unit == 0
        assert block < size + unit
        # Where threads ask for many tasks, none is shorter than two panels.
        assert fits(depth * block, item, l2 / 2, depth * 2 * unit), "a packed block leaves L2"

    if threads == 1 or m * r * n <= SERIAL_WORK:
        assert not p["parallel"]


@pytest.mark.parametrize("plan", [plan_rows, plan_rows_transposed, _core.plan_sum])
@pytest.mark.parametrize("micro", MICROS[:6], ids=str)
@pytest.mark.parametrize("threads", [2, 8, 64])
@pytest.mark.parametrize(
    "size", [(1000, 1000, 1000), (4096, 64, 4096), (500, 300, 900), (16, 2000, 4096)], ids=str
)
def test_every_thread_gets_a_task(plan, micro, threads, size):
    m, _, n = size
    p = plan(*size, *micro, *a_laptop, threads)
    assert p["parallel"]
    columns = p.get("column_chunk", n)
    tasks = math.ceil(m / p["row_block"]) * math.ceil(columns / p["column_block"])
    assert tasks >= threads


@pytest.mark.parametrize("micro", MICROS[:6], ids=str)
def test_parallel_from_the_threshold_on(micro):
    at, above = (12 << 10, 1 << 5, 1 << 5), ((12 << 10) + 1, 1 << 5, 1 << 5)
    assert math.prod(at) == SERIAL_WORK
    for plan in (plan_rows, plan_rows_transposed, _core.plan_sum):
        assert not plan(*at, *micro, *a_laptop, 2)["parallel"]
        assert plan(*above, *micro, *a_laptop, 2)["parallel"]
        assert not plan(*above, *micro, *a_laptop, 1)["parallel"]


@pytest.mark.parametrize("micro", MICROS, ids=str)
def test_a_kernel_of_8_mib_is_packed_whole(micro):
    _, nr, item = micro
    n = 8 * nr
    k = PACKED_KERNEL // item // n
    many = 10_000
    assert plan_rows(many, k, n, *micro, *a_laptop, 1)["column_chunk"] == n
    assert plan_rows(many, k + 1, n, *micro, *a_laptop, 1)["column_chunk"] == n - nr


@pytest.mark.parametrize("micro", MICROS[:6], ids=str)
@pytest.mark.parametrize(
    ("size", "transposed", "path"),
    [
        ((1, 300, 257), False, "stream"),
        ((1, 300, 257), True, "few"),
        ((64, 300, 257), False, "few"),
        ((31, 20011, 130), False, "many"),
        ((31, 20011, 130), True, "many"),
        ((16, 60_000, 1000), False, "stream"),
        ((376, 67, 3), False, "narrow"),
    ],
)
def test_all_paths_are_taken(size, transposed, path, micro):
    """By the sizes that the tests of the core use: else they would test less than they say."""
    server = (48 << 10, 2 << 20)
    assert _core.plan_rows(*size, size[0], transposed, *micro, *server, 1)["path"] == path


def test_short_inputs_share_tiles():
    server = (48 << 10, 2 << 20)
    for run, path in ((1, "many"), (13, "many"), (14, "narrow")):
        assert _core.plan_rows(256, 512, 32, run, False, 14, 32, 4, *server, 1)["path"] == path


def test_small_sums_are_dealt_by_chunks():
    server = (48 << 10, 2 << 20)
    micro = (14, 32, 4)
    assert _core.plan_sum(61, 5700, 37, *micro, *server, 2)["batch"] > 0
    assert _core.plan_sum(61, 5700, 37, *micro, *server, 1)["batch"] == 0
    assert _core.plan_sum(1024, 1600, 1024, *micro, *server, 2)["batch"] == 0
