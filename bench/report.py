"""What came out: a table to read and a JSON to keep."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import shared_dense as sd

OTHERS = {"plain": "plain", "concat": "concat", "xla": "XLA"}
PASSES = {"forward": "Forward", "forward+backward": "Forward and backward"}


def machine(threads: int) -> dict:
    """What the figures depend on, apart from the code."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = models[0].split(":", 1)[1].strip() if models else cpu
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
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
        for name in OTHERS
    }


def _ratio(value: float) -> str:
    return f"{value:.2f}{'!' if value < 1 else ' '}"


def _table(rows: Sequence[dict]) -> list[str]:
    forward = rows[0]["pass"] == "forward"
    width = max(14, *(len(row["shape"]) for row in rows))
    head = "".join(f"{'vs ' + label:>12}" for label in OTHERS.values())
    limit = f"{'of limit':>11}" if forward else ""
    lines = [f"{'shape':<{width}}{'op us':>11}{head}{limit}"]
    for row in rows:
        cells = "".join(f"{_ratio(row['ratio'][name]['median']):>12}" for name in OTHERS)
        limit = f"{row['of_limit']:>10.0%}" if forward else ""
        lines.append(f"{row['shape']:<{width}}{row['us']['op']:>11.1f}{cells} {limit}".rstrip())
    means = geometric_means(rows)
    cells = "".join(f"{_ratio(means[name]):>12}" for name in OTHERS)
    lines.append(f"{'geometric mean':<{width}}{'':>11}{cells}".rstrip())
    losses = {
        label: sum(row["ratio"][name]["median"] < 1 for row in rows)
        for name, label in OTHERS.items()
    }
    lost = ", ".join(f"{count} vs {label}" for label, count in losses.items())
    lines.append(f"losses (!) of {len(rows)}: {lost}")
    errors = {name: max(row["error"][name] for row in rows) for name in ("op", "plain")}
    lines.append(
        f"largest error against float64, relative to its tensor: op {errors['op']:.1e}, "
        f"plain reuse {errors['plain']:.1e}"
    )
    return lines


def text(found: dict) -> str:
    """The tables, with what is needed to read them."""
    m, v, limit = found["machine"], found["versions"], found["limit"]
    lines = [
        f"{m['cpu']}, {m['cores']} cores, {m['threads']} threads, {m['isa']}",
        ", ".join(f"{name} {version}" for name, version in v.items()),
        f"float32, bias and relu; median of {found['rounds']} rounds, inside the graph",
        "vs: times the op is faster than plain reuse (TensorFlow's fused matmul per input), concat "
        "(with its copies), XLA; ! where it is slower",
        f"limit: {limit['gflops']:.0f} GFLOP/s ({limit['proxy']})",
    ]
    for key, title in PASSES.items():
        rows = [row for row in found["results"] if row["pass"] == key]
        if rows:
            lines += ["", title, *_table(rows)]
    doubtful = doubtful_rows(found["results"], limit["gflops"])
    if doubtful:
        lines += ["", f"Faster than the limit allows, so do not believe: {'; '.join(doubtful)}"]
    return "\n".join(lines)


def doubtful_rows(rows: Sequence[dict], limit_gflops: float) -> list[str]:
    """Figures beyond the limit: the loop's body was not run, or the limit was disturbed."""
    return [
        f"{row['shape']} {row['pass']} {name}"
        for row in rows
        for name, us in row["us"].items()
        if row["gflop"] / us * 1e6 > 1.1 * limit_gflops
    ]
