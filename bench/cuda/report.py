"""What came out on a GPU: a table to read and a document to keep."""

from __future__ import annotations

from collections.abc import Sequence

from bench.cuda.cases import Case
from bench.cuda.targets import CACHES, Verdict, bandwidth, medians
from bench.tables import table

OTHERS = ("separate", "concat", "gemm")


def _ratio(us: dict[str, float], other: str, cache: str) -> str:
    theirs = us.get(f"{other} {cache}")
    return "-" if theirs is None else f"{theirs / us[f'ours {cache}']:.2f}"


def _cells(case: Case, row: dict) -> list[str]:
    errors = row["error"]
    error = [f"{errors['ours']['relative']:.0e}"]
    error.append(f"{errors['separate']['relative']:.0e}" if "separate" in errors else "-")
    us = medians(row)
    if not row["right"]:
        return ["WRONG", *["-"] * 9, f"{errors['ours']['of_bound']:.1f} of bound"]
    cells = []
    for cache in CACHES:
        cells.append(f"{us[f'ours {cache}']:.1f}")
        cells += [_ratio(us, other, cache) for other in OTHERS]
    cold = us["ours cold"]
    cells += [f"{bandwidth(case, cold) / 1e9:.0f}", f"{case.flops / us['ours warm'] / 1e6:.1f}"]
    return [*cells, "/".join(error)]


HEAD = [
    "case", "cold us", *OTHERS, "warm us", *OTHERS, "GB/s", "TFLOP/s", "error ours/cuBLASLt",
]  # fmt: skip


def text(found: dict, cases: Sequence[Case], verdicts: Sequence[Verdict]) -> str:
    """The tables; the targets come last."""
    limits, device, rows = found["limits"], found["device"], found["cases"]
    about = ", ".join(f"{key} {value}" for key, value in device.items())
    peaks = ", ".join(f"{name} {v / 1e12:.0f}" for name, v in limits["gemm_flops"].items())
    lines = [
        f"{about}; driver {found['driver'] or 'unknown'}",
        f"commit {found['commit']}, nvcc {found['nvcc']}, {found['rounds']} rounds",
        f"copy {limits['copy_bytes_per_s'] / 1e9:.0f} GB/s read and written; "
        f"one large product by cuBLASLt: {peaks or 'not measured'}{' TFLOP/s' if peaks else ''}",
        "separate, concat, gemm: their time over ours (N calls of cuBLASLt; concat, one call, "
        "split; that call alone). Medians, device time.",
        "",
    ]
    known = [(case, rows[case.name]) for case in cases if case.name in rows]
    lines.append(table(HEAD, [[case.name, *_cells(case, row)] for case, row in known]))
    skipped = sorted({row["skipped"] for _, row in known if "skipped" in row})
    lines += [f"not measured: {reason}" for reason in skipped]
    late = sum(row.get("late", 0) for _, row in known)
    if late:
        lines.append(f"{late} times hold the host's launches, too: it was slower than the device")
    words = {True: "met", False: "MISSED", None: "unknown"}
    rows = [[v.target, v.case, v.wanted, v.got, words[v.met]] for v in verdicts]
    lines.append("\n" + table(["target", "case", "wanted", "got", ""], rows))
    for why in sorted({v.why for v in verdicts if v.why}):
        lines.append(f"unknown or missed: {why}")
    return "\n".join(lines)
