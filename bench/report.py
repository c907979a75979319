"""What came out: a table to read and a JSON to keep."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

import shared_dense as sd
from bench import machine as machine_limits

OTHERS = {"plain": "plain", "concat": "concat", "xla": "XLA"}
PASSES = {"forward": "Forward", "forward+backward": "Forward and backward"}


def machine(threads: int) -> dict:
    """What the figures depend on, apart from the code."""
    return {
        "cpu": machine_limits.cpu_name(),
        "cores": len(machine_limits.cpus()),
        "threads": threads,
        "isa": sd.status().isa,
    }


def versions() -> dict:
    """Of everything that takes part."""
    return {
        "shared_dense": sd.__version__,
        "compiler": sd.status().compiler,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def geometric_means(rows: Sequence[dict]) -> dict[str, float]:
    """Of the median ratios, by contestant."""
    return {
        name: statistics.geometric_mean(row["ratio"][name]["median"] for row in rows)
        for name in rows[0]["ratio"]
    }


def _ratio(value: float) -> str:
    return f"{value:.2f}{'!' if value < 1 else ' '}"


def _us(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _bytes(value: float) -> str:
    return f"{value / 1e6:.0f} MB"


def _row(name: str, width: int, us: float, row: dict, ratios: Sequence[float]) -> str:
    limit = f"{_us(row['limit_us']):>11}{row['of_limit']:>10.0%}{row['limit_by']:>6}"
    cells = "".join(f"{_ratio(ratio):>12}" for ratio in ratios)
    return f"{name:<{width}}{_us(us):>11}{limit}{cells}".rstrip()


def _head(width: int, us: str, others: Sequence[str]) -> str:
    head = "".join(f"{'vs ' + label:>12}" for label in others)
    return f"{'shape':<{width}}{us:>11}{'limit us':>11}{'of limit':>10}{'by':>6}{head}"


def _mean(width: int, rows: Sequence[dict], ratios: Sequence[float]) -> str:
    of_limit = statistics.geometric_mean(row["of_limit"] for row in rows)
    cells = "".join(f"{_ratio(ratio):>12}" for ratio in ratios)
    return f"{'geometric mean':<{width}}{'':>22}{of_limit:>10.0%}{'':>6}{cells}".rstrip()


def _table(rows: Sequence[dict]) -> list[str]:
    width = max(14, *(len(row["shape"]) for row in rows))
    others = {name: OTHERS[name] for name in rows[0]["ratio"]}
    lines = [_head(width, "op us", list(others.values()))]
    for row in rows:
        ratios = [row["ratio"][name]["median"] for name in others]
        lines.append(_row(row["shape"], width, row["us"]["op"], row, ratios))
    lines.append(_mean(width, rows, list(geometric_means(rows).values())))
    losses = {
        label: sum(row["ratio"][name]["median"] < 1 for row in rows)
        for name, label in others.items()
    }
    lost = ", ".join(f"{count} vs {label}" for label, count in losses.items())
    lines.append(f"losses (!) of {len(rows)}: {lost}")
    known = [row["error"] for row in rows if "error" in row]  # none where Ctrl-C came first
    if known:
        errors = {name: max(error[name] for error in known) for name in ("op", "plain")}
        lines.append(
            f"largest error against float64, relative to its tensor: op {errors['op']:.1e}, "
            f"plain reuse {errors['plain']:.1e}"
        )
    return lines


def _kernel_table(rows: Sequence[dict]) -> list[str]:
    """Of one number of threads."""
    width = max(14, *(len(row["shape"]) for row in rows))
    lines = [_head(width, "core us", ["NumPy"])]
    ratios = [row["ratio"]["numpy"]["median"] for row in rows]
    for row, ratio in zip(rows, ratios, strict=True):
        lines.append(_row(row["shape"], width, row["us"]["core"], row, [ratio]))
    lines.append(_mean(width, rows, [statistics.geometric_mean(ratios)]))
    lines.append(f"losses (!) of {len(rows)}: {sum(ratio < 1 for ratio in ratios)} vs NumPy")
    lines.append(
        "largest difference between the two, relative to the largest value: "
        f"{max(row['difference'] for row in rows):.1e}"
    )
    return lines


def _kernel_only(found: dict) -> list[str]:
    lines = []
    for threads in sorted({row["threads"] for row in found["kernel_only"]}):
        plural = "thread" if threads == 1 else "threads"
        lines += [
            "",
            f"Kernel only, {threads} {plural}: the core's forward product without TensorFlow, "
            f"bias or activation, vs np.matmul of the concatenated inputs ({found['blas']}; less "
            "the time of a 1 x 1 product)",
            *_kernel_table([row for row in found["kernel_only"] if row["threads"] == threads]),
        ]
    if "kernel_only_failed" in found:
        lines += ["", f"Kernel only: {found['kernel_only_failed']}"]
    return lines


def _limit_lines(found: dict) -> list[str]:
    limit, threads = found["limit"], found["machine"]["threads"]
    (machine,) = [m for m in limit["machines"] if m["threads"] == threads]
    levels = []
    for level in machine["levels"]:
        capacity = "" if level["capacity"] is None else f" ({level['capacity'] / 2**20:.0f} MiB)"
        rates = "/".join(f"{level[way] / 1e9:.0f}" for way in ("read", "write", "copy"))
        levels.append(f"{level['name']}{capacity} {rates}")
    lines = [f"limit: FMA {limit['gflops']:.0f} GFLOP/s", f"  {limit['source']}"]
    if levels:
        lines[0] += f"; {', '.join(levels)} GB/s read/write/copy"
    return lines


def _memory(found: dict) -> list[str]:
    memory = found.get("memory")
    if memory is None:
        return []
    title = f"Memory of forward and backward, {memory['shape']}, {memory['dtype']}"
    if "unavailable" in memory:
        return ["", title, f"not measured: {memory['unavailable']}"]
    op, plain = (memory["peak_bytes"][name] for name in ("op", "plain"))
    return [
        "",
        title,
        f"peak above what the operands take: op {_bytes(op)}, plain reuse {_bytes(plain)}; "
        f"one kernel gradient is {_bytes(memory['dkernel_bytes'])}",
    ]


def text(found: dict) -> str:
    """The tables, with what is needed to read them."""
    m, v = found["machine"], found["versions"]
    lines = [
        f"{m['cpu']}, {m['cores']} cores, {m['threads']} threads, {m['isa']}",
        ", ".join(f"{name} {version}" for name, version in v.items()),
        f"{found['dtype']}, bias and relu; median of {found['rounds']} rounds, inside the graph"
        + (", all compiled by XLA" if found["jit"] else ""),
        "vs: times the op is faster than plain reuse (TensorFlow's fused matmul per input), concat "
        "(with its copies), XLA; ! where it is slower",
        *_limit_lines(found),
        "  of limit: the least time of arithmetic (FMA) and of moving each tensor once (by the "
        "level that holds them), as a part of the op's time",
    ]
    for key, title in PASSES.items():
        rows = [row for row in found["results"] if row["pass"] == key]
        if rows:
            lines += ["", title, *_table(rows)]
    lines += [*_kernel_only(found), *_memory(found)]
    doubtful = doubtful_rows(found["results"])
    if doubtful:
        lines += ["", f"Faster than the limit allows, so do not believe: {'; '.join(doubtful)}"]
    if found["interrupted"]:
        lines += ["", "Interrupted: this is what was complete by then."]
    return "\n".join(lines)


def doubtful_rows(rows: Sequence[dict]) -> list[str]:
    """Figures under the least time: the loop's body was not run, or the limit was disturbed.

    Under the time with every tensor in the fastest level, that is: tensors a little larger than a
    level may rightly beat the limit of the next.
    """
    return [
        f"{row['shape']} {row['pass']} {name}"
        for row in rows
        for name, us in row["us"].items()
        if 1.1 * us < row["floor_us"]
    ]
