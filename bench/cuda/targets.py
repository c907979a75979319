"""What was to be reached on a GPU, and whether it was."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.cuda.cases import LARGE, MANY_SMALL, SKINNY, Case

CACHES = ("cold", "warm")


class Verdict(NamedTuple):
    """`met` is None where it cannot be told, and `why` says why not."""

    target: str
    case: str
    wanted: str
    got: str
    met: bool | None
    why: str = ""


def medians(row: dict) -> dict[str, float]:
    """Microseconds by contestant and cache, 'ours cold': the medians of a case's rounds."""
    return {name: statistics.median(values) for name, values in row.get("us", {}).items()}


def bandwidth(case: Case, us: float) -> float:
    """Bytes a second, if each operand and result were moved once."""
    return case.bytes_moved / us * 1e6


def _least_ratio(row: dict, others: Sequence[str]) -> float | None:
    """Times of the fastest of the others over ours: the worse of cold and warm."""
    us = medians(row)
    ratios = []
    for cache in CACHES:
        known = [us[f"{other} {cache}"] for other in others if f"{other} {cache}" in us]
        if not known:
            return None
        ratios.append(min(known) / us[f"ours {cache}"])
    return min(ratios)


def judge(rows: dict[str, dict], limits: dict) -> list[Verdict]:
    """Every target in turn. `rows`: what `measure` wrote, by the names of the cases."""

    def of(target: str, case: Case, wanted: str, least: float, measure: Callable) -> Verdict:
        row, unknown = rows.get(case.name), (target, case.name, wanted, "-")
        if row is None:
            return Verdict(*unknown, None, "not run")
        if not row["right"]:
            return Verdict(*unknown, False, "wrong results")
        value = measure(row)
        if value is None:
            return Verdict(*unknown, None, row.get("skipped", "not timed"))
        return Verdict(target, case.name, wanted, f"{value:.2f}", value >= least)

    def of_copy(case: Case) -> Callable:
        # With the kernel in L2 already, DRAM would be no limit.
        return lambda row: bandwidth(case, medians(row)["ours cold"]) / limits["copy_bytes_per_s"]

    def ratio(*others: str) -> Callable:
        return lambda row: _least_ratio(row, others)

    def spare_dkernels(case: Case) -> Callable:
        return lambda row: 1 - row["scratch_bytes"] / case.dkernel_bytes

    found = [
        of("few rows", case, ">= 0.80 of copy bandwidth", 0.8, of_copy(case))
        for case in map(Case, SKINNY)
    ]
    for backward in (False, True):
        small, large = Case(MANY_SMALL, backward=backward), Case(LARGE, backward=backward)
        found += [
            of("many small", small, ">= 3 x N calls of cuBLASLt", 3, ratio("separate")),
            of("many small", small, ">= 1.3 x concat, cuBLASLt, split", 1.3, ratio("concat")),
            of(
                "large", large, ">= 0.95 of cuBLASLt, the fastest way", 0.95,
                ratio("separate", "concat", "gemm"),
            ),
        ]  # fmt: skip
    found += [
        of("memory", case, "scratch < one dW (spare > 0)", 1e-9, spare_dkernels(case))
        for case in (Case(MANY_SMALL, backward=True), Case(LARGE, backward=True))
    ]
    return found
