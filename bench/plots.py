"""Plots of a results file, for the pages.

One SVG each, of what the file holds: `grid` (speed-up over inputs and rows), `roofline`, `memory`,
`models`. The layout of the file is in bench/__init__.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

OURS, THEIRS, THIRD, INK = "#1f5fa8", "#d9822b", "#7a7a7a", "#222222"
NAMES = {
    "op": ("shared-dense", OURS),
    "plain": ("plain reuse", THEIRS),
    "concat": ("concat", THIRD),
}
MARKERS = {"op": "o", "plain": "x", "concat": "+"}
# How the lines of levels are drawn, fastest first, and whether their names stand above them.
LEVEL_LINES = (("-", True), ("--", False), (":", False))
# The same text in every run, whatever the machine has installed, and no date.
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "svg.hashsalt": "shared-dense",
    "svg.fonttype": "none",
    "figure.dpi": 100,
}


def _caption(found: dict) -> str:
    machine, made = found["machine"], found["commit"]
    revision = f" · commit {made['hash'][:12]}" if made else ""
    return (
        f"{machine['cpu']}, {machine['threads']} threads, {machine['isa']} · "
        f"TensorFlow {found['versions']['tensorflow']} · {found['runs']} runs of "
        f"{found['rounds']} rounds{revision}"
    )


def _finish(figure: plt.Figure, found: dict, file: Path) -> None:
    figure.text(0.01, 0.01, _caption(found), fontsize=7, color=THIRD)
    figure.savefig(file, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def _passes(rows: Sequence[dict]) -> list[str]:
    return [p for p in ("forward", "forward+backward") if any(r["pass"] == p for r in rows)]


def _heat(axes: Axes, rows: Sequence[dict], most: float) -> None:
    inputs = sorted({row["inputs"] for row in rows})
    each = sorted({row["rows"][0] for row in rows})
    speed = np.full((len(each), len(inputs)), np.nan)
    for row in rows:
        place = each.index(row["rows"][0]), inputs.index(row["inputs"])
        speed[place] = row["ratio"]["plain"]["median"]
    # Purple where the op is faster, orange where it is slower, white where neither is.
    axes.imshow(speed, cmap="PuOr", norm=LogNorm(1 / most, most), origin="lower", aspect="auto")
    for (y, x), value in np.ndenumerate(speed):
        if np.isfinite(value):
            dark = abs(np.log(value)) > 0.4 * np.log(most)
            text = f"{value:.2f}" if value < 10 else f"{value:.0f}"
            axes.text(x, y, text, ha="center", va="center", color="white" if dark else INK)
    axes.set_xticks(range(len(inputs)), inputs)
    axes.set_yticks(range(len(each)), each)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlabel("inputs")
    axes.set_ylabel("rows of each")


def grid(found: dict, file: Path) -> None:
    """How many times faster than plain reuse, over the number of inputs and their rows."""
    rows = found["grid"]
    passes = _passes(rows)
    ratios = [row["ratio"]["plain"]["median"] for row in rows]
    most = max(2.0, *ratios, *(1 / ratio for ratio in ratios))
    size = f"{rows[0]['in_features']} → {rows[0]['units']}"
    figure, axes = plt.subplots(1, len(passes), figsize=(4.6 * len(passes), 3.6), squeeze=False)
    for axis, name in zip(axes[0], passes, strict=True):
        _heat(axis, [row for row in rows if row["pass"] == name], most)
        axis.set_title(f"{name.replace('+', ' + ')}, {size}", loc="left")
    figure.suptitle("Times faster than plain reuse (above 1: the op wins)", x=0.01, ha="left")
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    _finish(figure, found, file)


def _limits(found: dict, dtype: str) -> tuple[float, list[dict]]:
    (machine,) = [
        m for m in found["limit"]["machines"] if m["threads"] == found["machine"]["threads"]
    ]
    return machine["fma"][dtype] / 1e9, machine["levels"]


def _on_the_roofline(found: dict) -> list[dict]:
    return [
        row
        for row in found.get("results", [])
        if row["dtype"] == "float32"
        and row["threads"] == found["machine"]["threads"]
        and not row["jit"]
        and row["kernels"] == 1
        and row["pass"] == "forward"
    ]


def roofline(found: dict, file: Path) -> None:
    """What the op and plain reuse reach, over the arithmetic a shape has per byte it must move."""
    rows = _on_the_roofline(found)
    peak, levels = _limits(found, "float32")
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    intensity = [1e9 * row["gflop"] / row["bytes"] for row in rows]
    span = np.geomspace(min(intensity) / 2, max(intensity) * 2, 200)
    for level, (line, above) in zip(levels, LEVEL_LINES, strict=False):
        slope = level["read"] / 1e9
        axes.plot(span, np.minimum(peak, slope * span), color=THIRD, linewidth=1, linestyle=line)
        # Left of all lines, apart from the name of a level that is nearly as fast.
        axes.annotate(f"{level['name']} {slope:.0f} GB/s", (span[0], slope * span[0]),
                      (-4, 6 if above else -4), textcoords="offset points", fontsize=7,
                      ha="right", va="center", color=THIRD)  # fmt: skip
    axes.text(span[-1], peak, f"FMA {peak:.0f} GFLOP/s", ha="right", va="bottom", fontsize=7,
              color=THIRD)  # fmt: skip
    for name, marker in (("plain", "x"), ("op", "o")):
        label, colour = NAMES[name]
        reached = [1e6 * row["gflop"] / row["us"][name]["median"] for row in rows]
        axes.scatter(intensity, reached, color=colour, marker=marker, s=26, label=label, zorder=3)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left=span[0] / 4)
    axes.set_xlabel("FLOP per byte that must be moved (which level holds a shape: see the tables)")
    axes.set_ylabel("GFLOP/s")
    axes.set_title("Forward, float32: what is reached, and what the machine allows", loc="left")
    axes.legend(frameon=False, loc="lower right")
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    _finish(figure, found, file)


def memory(found: dict, file: Path) -> None:
    """Peak memory of forward and backward over the number of inputs."""
    rows = sorted(found["memory"], key=lambda row: row["inputs"])
    figure, axes = plt.subplots(figsize=(5.6, 3.6))
    inputs = [row["inputs"] for row in rows]
    for name, (label, colour) in NAMES.items():
        if name in rows[0]["peak_bytes"]:
            peak = [row["peak_bytes"][name] / 1e6 for row in rows]
            # The last figure in the legend: the lines of two may lie on each other.
            axes.plot(inputs, peak, color=colour, marker=MARKERS[name], markersize=5,
                      label=f"{label}: {peak[-1]:.0f} MB with {inputs[-1]}")  # fmt: skip
    axes.legend(frameon=False, loc="upper left")
    axes.set_xticks(inputs)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("inputs")
    axes.set_ylabel("MB above the operands")
    row = rows[0]
    size = f"{row['rows'][0]} rows each, {row['in_features']} → {row['units']}"
    axes.set_title(f"Peak memory of forward + backward, {size}", loc="left")
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    _finish(figure, found, file)


def models(found: dict, file: Path) -> None:
    """Time of a training step and of a prediction of whole models, over SharedDense's."""
    rows = found["models"]
    passes = [p for p in ("training step", "inference") if any(r["pass"] == p for r in rows)]
    figure, axes = plt.subplots(1, len(passes), figsize=(4.8 * len(passes), 3.4), squeeze=False)
    ways = {"dense": ("a Dense per input", THEIRS), "concat": ("concat, Dense, split", THIRD)}
    for axis, name in zip(axes[0], passes, strict=True):
        own = [row for row in rows if row["pass"] == name]
        for k, (way, (label, colour)) in enumerate(ways.items()):
            timed = [y for y, row in enumerate(own) if way in row["ratio"]]
            spread = [own[y]["ratio"][way] for y in timed]
            value = [s["median"] for s in spread]
            error = np.reshape(
                [(s["median"] - s["low"], s["high"] - s["median"]) for s in spread], (-1, 2)
            ).T
            place = np.array(timed) + (0.5 - k) * 0.36
            axis.barh(place, value, 0.34, xerr=error, color=colour, label=label, ecolor=INK,
                      error_kw={"linewidth": 0.8})  # fmt: skip
            # In a column of their own, clear of bars and of the line at 1.
            for y, v in zip(place, value, strict=True):
                axis.text(1.0, y, f"{v:.2f}", va="center", ha="right", fontsize=8, color=colour,
                          transform=axis.get_yaxis_transform())  # fmt: skip
        axis.axvline(1, color=OURS, linewidth=1.5)
        axis.set_xlim(
            right=1.2 * max((s["high"] for r in own for s in r["ratio"].values()), default=1)
        )
        axis.set_yticks(range(len(own)), [row["model"] for row in own])
        axis.invert_yaxis()
        axis.set_title(name, loc="left")
        axis.set_xlabel("times as long as SharedDense (blue line)")
    bars, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(bars, labels, frameon=False, loc="upper right", ncols=2, fontsize=8)
    figure.tight_layout(rect=(0, 0.05, 1, 0.95))
    _finish(figure, found, file)


PLOTS: dict[str, Callable[[dict, Path], None]] = {
    "grid": grid,
    "roofline": roofline,
    "memory": memory,
    "models": models,
}
NEEDS: dict[str, Callable[[dict], list]] = {
    "grid": lambda found: found.get("grid", []),
    "roofline": _on_the_roofline,
    "memory": lambda found: found.get("memory", []),
    "models": lambda found: found.get("models", []),
}


def draw(found: dict, folder: Path) -> list[Path]:
    """Draws what the results hold.

    Returns:
        The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with plt.rc_context(STYLE):
        for name, plot in PLOTS.items():
            if NEEDS[name](found):
                files.append(folder / f"{name}.svg")
                plot(found, files[-1])
    return files
