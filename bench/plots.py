"""Plots of a results file, for the pages: what no table shows.

One SVG each, of what the file holds: `grid` (speed-up over inputs and rows) and `roofline`. The
layout of the file is in bench/__init__.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from bench import report, tables

GREY, INK = "#7a7a7a", "#222222"
# Contestant: label, colour, marker.
DRAWN = {"plain": ("plain reuse", "#d9822b", "x"), "op": ("shared-dense", "#1f5fa8", "o")}
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


def grid(_: dict, rows: Sequence[dict]) -> plt.Figure:
    """How many times faster than plain reuse, over the number of inputs and their rows."""
    passes = list(dict.fromkeys(row["pass"] for row in rows))
    ratios = [row["ratio"]["plain"]["median"] for row in rows]
    most = max(2.0, *ratios, *(1 / ratio for ratio in ratios))
    size = f"{rows[0]['in_features']} → {rows[0]['units']}"
    figure, axes = plt.subplots(1, len(passes), figsize=(4.6 * len(passes), 3.6), squeeze=False)
    for axis, name in zip(axes[0], passes, strict=True):
        _heat(axis, [row for row in rows if row["pass"] == name], most)
        axis.set_title(f"{name.replace('+', ' + ')}, {size}", loc="left")
    figure.suptitle("Times faster than plain reuse (above 1: the op wins)", x=0.01, ha="left")
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    return figure


def roofline(found: dict, rows: Sequence[dict]) -> plt.Figure:
    """What the op and plain reuse reach, over the arithmetic a shape has per byte it must move."""
    (machine,) = (m for m in found["limit"]["machines"] if m["threads"] == rows[0]["threads"])
    peak = machine["fma"]["float32"] / 1e9
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    intensity = [1e9 * row["gflop"] / row["bytes"] for row in rows]
    span = np.geomspace(min(intensity) / 2, max(intensity) * 2, 200)
    for level, (line, above) in zip(machine["levels"], LEVEL_LINES, strict=False):
        slope = level["read"] / 1e9
        axes.plot(span, np.minimum(peak, slope * span), color=GREY, linewidth=1, linestyle=line)
        # Left of all lines, apart from the name of a level that is nearly as fast.
        axes.annotate(f"{level['name']} {slope:.0f} GB/s", (span[0], slope * span[0]),
                      (-4, 6 if above else -4), textcoords="offset points", fontsize=7,
                      ha="right", va="center", color=GREY)  # fmt: skip
    axes.text(span[-1], peak, f"FMA {peak:.0f} GFLOP/s", ha="right", va="bottom", fontsize=7,
              color=GREY)  # fmt: skip
    for name, (label, colour, marker) in DRAWN.items():
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
    return figure


def draw(found: dict, folder: Path) -> list[Path]:
    """Draws what the results hold.

    Returns:
        The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    title = f"forward, float32, {tables.threads(found['machine']['threads'])}"
    warm = dict(report.titled(found["results"])).get(title, [])
    with plt.rc_context(STYLE):
        for plot, rows in ((grid, found["grid"]), (roofline, warm)):
            if rows:
                files.append(folder / f"{plot.__name__}.svg")
                figure = plot(found, rows)
                figure.text(0.01, 0.01, _caption(found), fontsize=7, color=GREY)
                figure.savefig(files[-1], bbox_inches="tight", metadata={"Date": None})
                plt.close(figure)
    return files
