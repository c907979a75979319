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
ASLEEP, AWAKE = 5 << 20, 1 << 19
MOST_PACKED, KEPT_KERNEL = 8 << 20, 4 << 20
READ_COST = 4
OWN_COPIES, STREAM_ROWS = 4, 16
PARTIAL_SUMS, SMALL_SUM = 4 << 20, 64 << 10
# MR, NR, lanes and item size of every micro-kernel there is (NR is two vectors), and one like none.
MICROS = [
    (mr, 2 * vector // item, vector // item, item)
    for mr, vector in ((14, 64), (6, 32), (4, 16), (8, 16))
    for item in (4, 8)
] + [(5, 7, 7, 4)]

sizes = st.integers(1, 70) | st.integers(1, 5000) | st.integers(0, 32).map(lambda n: 1 << n)
micros = st.sampled_from(MICROS)
caches = st.tuples(st.integers(0, 1 << 20), st.integers(0, 1 << 26))
threads = st.integers(1, 256)
a_laptop = (32 << 10, 1 << 20)
any_plan = settings(max_examples=300, deadline=None, derandomize=True, database=None)


def assume_possible(m, k, n):
    assume(max(m * k, k * n, m * n) <= LARGEST_MATRIX)


def work(*sizes):
    return math.prod(size and max(size, READ_COST) for size in sizes)


def plan_rows(m, k, n, *rest):
    return _core.plan_rows(m, k, n, m, False, *rest, ASLEEP)


def plan_rows_transposed(m, k, n, *rest):
    return _core.plan_rows(m, k, n, m, True, *rest, ASLEEP)


def plan_sum(m, r, n, *rest):
    return _core.plan_sum(m, r, n, *rest, ASLEEP)


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
    p = _core.plan_rows(*sizes, run, transposed, *micro, *caches, threads, ASLEEP)
    (m, k, n), (mr, nr, lanes, item), (l1, l2) = sizes, micro, caches
    depth, rows, columns, chunk = (
        p[name] for name in ("depth", "row_block", "column_block", "column_chunk")
    )
    unit = nr if p["path"] == "flipped" else mr

    assert depth >= 1
    assert rows >= 1
    assert rows % unit == 0
    assert rows < m + unit, "a block of rows that are not there"
    assert columns >= 1
    assert columns % nr == 0
    assert columns <= chunk
    assert chunk % nr == 0
    assert chunk < n + nr

    if p["path"] in ("in_place", "flipped"):
        assert run >= mr, "short inputs would each fill a tile alone"
        assert depth == max(k, 1)
        assert k * chunk * item <= l2, "the packed kernel leaves L2"
        assert chunk >= n
    if p["path"] == "flipped":
        assert n <= lanes / 2, "half of every vector would be idle"
        assert n <= mr
    if p["path"] == "stream":
        assert rows >= m
        assert math.ceil(m / mr) * mr * k * item <= MOST_PACKED, "padding counts"
        assert not transposed
        assert fits(m * columns, item, l2 / 2, m * nr), "the sums leave L2"
    if p["path"] == "by_columns":
        assert rows * k * item <= MOST_PACKED or rows == mr
        assert not p["keeps_b"] or chunk * k * item <= KEPT_KERNEL
        assert p["keeps_b"] <= (rows < m), "kept for nobody"
        leaves_l2 = not p["keeps_b"] and rows * max(k, 1) * item > l2 // 2
        assert p["depth_first"] == leaves_l2
    else:
        assert not p["keeps_b"]
        assert not p["depth_first"]
    if p["path"] in ("by_columns", "by_rows"):
        deepest = 256 + 16 if transposed else l1 // (mr * item) + 16
        assert depth <= max(deepest, 64 + 16), "blocks of equal depth, a panel of rows in L1"
    if p["path"] == "by_rows":
        assert chunk * k * item <= MOST_PACKED or chunk == nr
        assert fits(depth * rows, item, l2 / 2, depth * mr), "the packed rows leave L2"

    assert p["own_copies"] == (
        p["parallel"] and threads <= OWN_COPIES and small_enough(p, k, l2, item)
    )
    if threads == 1 or work(m, k, n) <= ASLEEP:
        assert not p["parallel"]


def small_enough(p, k, l2, item):
    """Whether what all tasks read is small enough for a copy each."""
    return p["path"] != "by_rows" or p["column_chunk"] * k * item <= l2 // 2


@any_plan
@given(st.tuples(sizes, sizes, sizes), micros, caches, threads)
@example((1, 1, 1), MICROS[0], a_laptop, 1)
@example((1, 1, 1), MICROS[0], (0, 0), 256)
@example((1, 1 << 22, 3), MICROS[1], a_laptop, 16)
def test_sum_blocks(sizes, micro, caches, threads):
    assume_possible(*sizes)
    p = plan_sum(*sizes, *micro, *caches, threads)
    (m, r, n), (mr, nr, lanes, item), (_, l2) = sizes, micro, caches
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

    assert p["streams"] == (m <= STREAM_ROWS and n >= lanes)
    if threads == 1 or work(m, r, n) <= ASLEEP:
        assert not p["parallel"]


@pytest.mark.parametrize("plan", [plan_rows, plan_rows_transposed, plan_sum])
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


@pytest.mark.parametrize("worth", [ASLEEP, AWAKE])
@pytest.mark.parametrize("micro", MICROS[:6], ids=str)
def test_parallel_from_the_threshold_on(micro, worth):
    at, above = (worth >> 10, 1 << 5, 1 << 5), ((worth >> 10) + 1, 1 << 5, 1 << 5)
    assert math.prod(at) == worth
    plans = [
        lambda *a: _core.plan_rows(*a[:3], a[0], False, *a[3:]),
        lambda *a: _core.plan_rows(*a[:3], a[0], True, *a[3:]),
        _core.plan_sum,
    ]
    for plan in plans:
        assert not plan(*at, *micro, *a_laptop, 2, worth)["parallel"]
        assert plan(*above, *micro, *a_laptop, 2, worth)["parallel"]
        assert not plan(*above, *micro, *a_laptop, 1, worth)["parallel"]


def test_few_rows_are_worth_a_thread_for_the_kernel_they_read():
    micro = MICROS[0]
    assert not plan_rows(2, 1024, 1024, *micro, *a_laptop, 2)["parallel"]
    assert plan_rows(2, 1280, 1280, *micro, *a_laptop, 2)["parallel"]


@pytest.mark.parametrize("micro", MICROS, ids=str)
def test_a_kernel_of_4_mib_is_packed_once(micro):
    _, nr, _, item = micro
    n = 8 * nr
    k = KEPT_KERNEL // item // n
    many = 10_000
    assert plan_rows(many, k, n, *micro, *a_laptop, 1)["keeps_b"]
    assert not plan_rows(many, k + 1, n, *micro, *a_laptop, 1)["keeps_b"]


@pytest.mark.parametrize("micro", MICROS[:6], ids=str)
@pytest.mark.parametrize(
    ("size", "threads", "transposed", "path"),
    [
        ((1, 300, 257), 1, False, "stream"),
        ((1, 300, 257), 1, True, "by_columns"),
        ((64, 300, 2570), 2, False, "by_columns"),
        ((64, 300, 257), 1, True, "by_columns"),
        ((16, 30_000, 1000), 1, False, "stream"),
        ((376, 67, 5), 1, False, "in_place"),
        ((376, 67, 1), 1, False, "flipped"),
        ((376, 67, 1), 1, True, "flipped"),
        ((376, 12, 300), 1, True, "in_place"),
    ],
)
def test_all_paths_are_taken(size, threads, transposed, path, micro):
    """By the sizes that the tests of the core use: else they would test less than they say."""
    server = (48 << 10, 2 << 20)
    plan = _core.plan_rows(*size, size[0], transposed, *micro, *server, threads, ASLEEP)
    flips = path == "in_place" and size[2] <= min(micro[2] // 2, micro[0])
    assert plan["path"] == ("flipped" if flips else path)


@pytest.mark.parametrize("micro", MICROS, ids=str)
@pytest.mark.parametrize("transposed", [False, True])
def test_rows_are_dealt_where_columns_do_not_go_round(micro, transposed):
    n, k, m = 3 * micro[1] - 1, (2 << 20) // micro[1] // micro[3], 4000
    plan = _core.plan_rows(m, k, n, m, transposed, *micro, *a_laptop, 2, ASLEEP)
    assert plan["path"] == "by_rows"


def test_short_inputs_share_tiles():
    server = (48 << 10, 2 << 20)
    for run, path in ((1, "by_columns"), (13, "by_columns"), (14, "in_place")):
        plan = _core.plan_rows(256, 512, 32, run, False, 14, 32, 16, 4, *server, 1, ASLEEP)
        assert plan["path"] == path


def test_small_sums_are_dealt_by_chunks():
    server = (48 << 10, 2 << 20)
    micro = (14, 32, 16, 4)
    assert plan_sum(61, 5700, 37, *micro, *server, 2)["batch"] > 0
    assert plan_sum(61, 5700, 37, *micro, *server, 1)["batch"] == 0
    assert plan_sum(1024, 1600, 1024, *micro, *server, 2)["batch"] == 0
    # As small, but so long that every thread would pack megabytes of it.
    assert plan_sum(1, 5700, 16_384, *micro, *server, 2)["batch"] == 0


def test_work_past_int64_is_much_work():
    for plan in (plan_rows, plan_rows_transposed, plan_sum):
        assert plan(10**7, 10**6, 10**6, 14, 32, 16, 4, *a_laptop, 2)["parallel"]


def test_inputs_without_rows_change_no_plan():
    """They are not stacked, so they do not make the average input shorter either."""
    sizes = {"in_features": 64, "units": 3}
    assert _core.explain([0] * 50 + [300], **sizes) == _core.explain([300], **sizes)
