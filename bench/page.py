# ruff: noqa: RUF001, RUF002
"""Writes the figures of a results file into pages: `python -m bench.page`.

docs/benchmarks.json is the file that README.md and docs/benchmarks.md quote. What stands in a page
between `<!-- bench: NAME -->` and `<!-- end -->` is made here; the plots are made by `plots`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from statistics import geometric_mean, median

from bench import plots
from bench.doubts import disturbed_rows
from bench.medians import spread_of
from bench.processes import ROOT
from bench.report import LABELS, means

RESULTS = ROOT / "docs/benchmarks.json"
PAGES = ("README.md", "docs/benchmarks.md")
PASSES = ("forward", "forward+backward")
DISTURBED = "Disturbed, as plain reuse and Keras run the same and differ by more than their spreads"
# Of every kind; the page has them all.
FIRST_SCREEN = (
    "128x1 768->768",
    "8x1 4096->4096",
    "8x1 1024->1024",
    "8x8 1024->1024",
    "16x32 512->512",
    "64x16 128->128",
    "2x1024 1024->1024",
    "2x128 300->100",
    "5x[4000,1000,250,60,15] 256->3",
    "2x[2000,500] 64->1",
)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _main(
    found: dict,
    name: str,
    *,
    section: str = "results",
    dtype: str = "float32",
    jit: bool = False,
    cold: bool = False,
    threads: int | None = None,
) -> list[dict]:
    """In the graph, float32, not compiled, on all threads, unless said otherwise."""
    return [
        row
        for row in found[section]
        if row["pass"] == name
        and row["dtype"] == dtype
        and row["threads"] == (threads or found["machine"]["threads"])
        and row["jit"] == jit
        and (row["kernels"] > 1) == cold
    ]


def _shape(row: dict) -> str:
    """'8 × 1, 1024 → 1024', or '5 × [4000 … 15], 256 → 3'."""
    each = {*row["rows"]}
    rows = str(row["rows"][0])
    if len(each) > 1:
        between = " … " if len(row["rows"]) > 2 else ", "
        rows = f"[{row['rows'][0]}{between}{row['rows'][-1]}]"
    return f"{row['inputs']} × {rows}, {row['in_features']} → {row['units']}"


def _times(ratio: dict | float | None) -> str:
    if ratio is None:
        return "–"
    value = ratio["median"] if isinstance(ratio, dict) else ratio
    text = f"{value:.1f}" if value >= 1.95 else f"{value:.2f}"
    return f"**{text}×**" if _is_lost(value) else f"{text}×"


def _is_lost(ratio: float) -> bool:
    """By what is shown of it."""
    return ratio < 0.995


def _with_spread(ratio: dict | None) -> str:
    return _times(ratio) + (f" ±{spread_of(ratio):.0%}" if ratio else "")


def _us(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def first_screen(found: dict) -> str:
    """The README's table."""
    names = ("plain", "concat", "xla")
    both = [_main(found, name) for name in PASSES]
    heads = ["inputs × rows of each, in → units"]
    for title in ("forward", "with gradients"):
        heads += [f"{title}: vs plain reuse", "vs concat", "vs XLA"]
    heads.append("error (plain reuse's)")
    rows = []
    for shape in FIRST_SCREEN:
        of_shape = [next(row for row in rows_ if row["shape"] == shape) for rows_ in both]
        cells = [_times(row["ratio"].get(name)) for row in of_shape for name in names]
        error = of_shape[1]["error"]
        rows.append([_shape(of_shape[0]), *cells, f"{error['op']:.0e} ({error['plain']:.0e})"])
    mean = [means(rows_) for rows_ in both]
    cells = [_times(m[name]) for m in mean for name in names]
    worst = {
        who: max(row["error"][who] for rows_ in both for row in rows_) for who in ("op", "plain")
    }
    last = f"at most {worst['op']:.0e} ({worst['plain']:.0e})"
    rows.append([f"geometric mean of {len(both[0])} shapes", *cells, last])
    spreads = [
        spread_of(row["ratio"][name])
        for rows_ in both
        for row in rows_
        for name in names
        if row["shape"] in FIRST_SCREEN
    ]
    lost = [sum(_is_lost(row["ratio"]["plain"]["median"]) for row in rows_) for rows_ in both]
    best = [
        geometric_mean(min(r["median"] for r in row["ratio"].values()) for row in rows_)
        for rows_ in both
    ]
    most = max(found["memory"], key=lambda row: row["inputs"])
    peak = {name: f"{value / 1e6:.0f} MB" for name, value in most["peak_bytes"].items()}
    text = (
        f"{lost[0]} of the {len(both[0])} shapes forward and {lost[1]} with gradients are slower "
        "than plain reuse. Against the fastest for each shape (plain reuse, Keras, concat, "
        f"stack, XLA): {_times(best[0])} and {_times(best[1])}. Memory of "
        f"forward and backward, {_shape(most)}: {peak['op']} above the "
        f"operands, plain reuse {peak['plain']}, concat {peak['concat']}. Over "
        f"{found['runs']} runs, processes of their own, these ratios moved by "
        f"±{median(spreads):.0%} in the median, at most ±{max(spreads):.0%}. "
    )
    return f"{_table(heads, rows)}\n{text}{_machine(found)}"


def _all(found: dict, name: str, **which: object) -> str:
    rows = _main(found, name, **which)
    names = list(dict.fromkeys(n for row in rows for n in row["ratio"]))
    bounded = "of_limit" in rows[0]
    heads = ["use", "shape", "µs", *["of the limit"] * bounded]
    heads += [*(f"vs {LABELS[n]}" for n in names), "error"]
    cells = []
    for row in rows:
        limit = [f"{row['of_limit']:.0%} ({row['limit_by']})"] if bounded else []
        cells.append(
            [
                row["use"],
                _shape(row),
                f"{_us(row['us']['op']['median'])} ±{spread_of(row['us']['op']):.0%}",
                *limit,
                *(_with_spread(row["ratio"].get(n)) for n in names),
                f"{row['error']['op']:.0e} ({row['error']['plain']:.0e})",
            ]
        )
    mean = means(rows)
    blank = [""] * (2 + bounded)
    cells.append(["geometric mean", *blank, *(_times(mean[n]) for n in names), ""])
    disturbed = {row["shape"]: _shape(row) for row in rows if disturbed_rows([row])}
    note = f"\n{DISTURBED}: {'; '.join(disturbed.values())}.\n" if disturbed else ""
    return _table(heads, cells) + note


def _eager(found: dict) -> str:
    """Of layers, which are what users call: SharedDense against a Dense per input."""
    both = [_main(found, name, section="eager") for name in PASSES]
    heads = ["use", "shape"]
    for title in ("forward", "with gradients"):
        heads += [f"{title}: SharedDense, µs", "vs a Dense per input"]
    cells, mean = [], []
    for rows in zip(*both, strict=True):
        cells.append([rows[0]["use"], _shape(rows[0])])
        for row in rows:
            layer = row["us"]["layer"]
            cells[-1] += [
                f"{_us(layer['median'])} ±{spread_of(layer):.0%}",
                _times(row["us"]["keras"]["median"] / layer["median"]),
            ]
    for rows in both:
        ratios = [row["us"]["keras"]["median"] / row["us"]["layer"]["median"] for row in rows]
        mean += ["", _times(geometric_mean(ratios))]
    return _table(heads, [*cells, ["geometric mean", *mean]])


def _peers(found: dict) -> str:
    """Times over the op's called from Python too, in another process: no ratio of rounds."""
    names = list(dict.fromkeys(row["peer"] for row in found["peers"]))
    if not names:
        return "None was installed.\n"
    heads = ["use", "shape"]
    for title in ("forward", "with gradients"):
        heads += [f"{title}: op, µs", *(f"vs {name}" for name in names)]
    us = {
        (row["peer"], row["shape"], row["pass"]): row["us"]["median"]
        for row in found["peers"]
        if row["dtype"] == "float32"
    }
    ratios: dict[tuple, list[float]] = {}
    cells = []
    for rows in zip(*(_main(found, name, section="eager") for name in PASSES), strict=True):
        cells.append([rows[0]["use"], _shape(rows[0])])
        for row in rows:
            op = row["us"]["op"]["median"]
            cells[-1].append(_us(op))
            for name in names:
                known = us.get((name, row["shape"], row["pass"]))
                if known:
                    ratios.setdefault((row["pass"], name), []).append(known / op)
                cells[-1].append(_times(known and known / op))
    last = ["geometric mean", ""]
    for name in PASSES:
        known = [ratios.get((name, peer)) for peer in names]
        last += ["", *(_times(each and geometric_mean(each)) for each in known)]
    versions = {row["peer"]: row["version"] for row in found["peers"]}
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{_table(heads, [*cells, last])}\n{said}.\n"


def _memory(found: dict) -> str:
    names = list(found["memory"][0]["peak_bytes"])
    rows = [
        [_shape(row), *(f"{row['peak_bytes'][n] / 1e6:.0f} MB" for n in names)]
        for row in found["memory"]
    ]
    return _table(["shape", "shared-dense", *(LABELS.get(n, n) for n in names[1:])], rows)


def _models(found: dict) -> str:
    def cell(values: dict | None) -> str:
        spread = f" ({values['low']:.2f}–{values['high']:.2f})" if values else ""
        return _times(values) + spread

    rows = [
        [
            row["model"],
            row["shape"].replace("->", " → ").replace("x", " × ", 1),
            row["pass"],
            _us(row["us"]["shared"]["median"]),
            cell(row["ratio"].get("dense")),
            cell(row["ratio"].get("concat")),
        ]
        for row in found["models"]
    ]
    heads = ["model", "inputs, widths", "", "SharedDense, µs", "vs a Dense per input", "vs concat"]
    return _table(heads, rows)


def _models_in_short(found: dict) -> str:
    """A row for each model."""
    heads = ["whole model, inputs × rows of each"]
    for name in dict.fromkeys(row["pass"] for row in found["models"]):
        heads += [f"{name}: vs a Dense per input", "vs concat"]
    rows: dict[str, list[str]] = {}
    for row in found["models"]:
        inputs = row["shape"].split(", ")[0].replace("x", " × ", 1)
        cells = rows.setdefault(row["model"], [f"{row['model']}, {inputs}"])
        cells += [_with_spread(row["ratio"].get(way)) for way in ("dense", "concat")]
    return _table(heads, list(rows.values()))


def _load(found: dict) -> str:
    steps = list(dict.fromkeys(step for row in found["load"] for step in row["seconds"]))
    rows = [
        [
            row["contestant"],
            "XLA" if row["jit"] else "graph",
            *(
                f"{row['seconds'][step]['median']:.2f} s" if step in row["seconds"] else "–"
                for step in steps
            ),
        ]
        for row in found["load"]
    ]
    return _table(["", "", *steps], rows)


def _machine(found: dict) -> str:
    machine, versions = found["machine"], found["versions"]
    (limit,) = [m for m in found["limit"]["machines"] if m["threads"] == machine["threads"]]
    levels = ", ".join(f"{lv['name']} {lv['read'] / 1e9:.0f}" for lv in limit["levels"])
    return (
        f"{machine['cpu']}, {machine['threads']} threads, {machine['isa']}; TensorFlow "
        f"{versions['tensorflow']}, Keras {versions['keras']}, {versions['compiler']}; FMA "
        f"{limit['fma']['float32'] / 1e9:.0f} GFLOP/s in float32, reading at {levels} GB/s. "
        f"`{found['command']}`, {found['runs']} runs of {found['rounds']} rounds, commit "
        f"{found['commit']['hash'][:12]}{', with changes' * found['commit']['dirty']}.\n"
    )


BLOCKS: dict[str, Callable[[dict], str]] = {
    "first screen": first_screen,
    "whole models": _models_in_short,
    "machine": _machine,
    "forward": lambda found: _all(found, PASSES[0]),
    "backward": lambda found: _all(found, PASSES[1]),
    "cold": lambda found: _all(found, PASSES[0], cold=True),
    "one thread": lambda found: _all(found, PASSES[0], threads=1),
    "XLA forward": lambda found: _all(found, PASSES[0], jit=True),
    "XLA backward": lambda found: _all(found, PASSES[1], jit=True),
    "bfloat16 forward": lambda found: _all(found, PASSES[0], dtype="bfloat16"),
    "bfloat16 backward": lambda found: _all(found, PASSES[1], dtype="bfloat16"),
    "eager": _eager,
    "peers": _peers,
    "memory": _memory,
    "models": _models,
    "load": _load,
}


def filled(text: str, found: dict) -> str:
    """The page with its figures as the results have them.

    Raises:
        KeyError: the page asks for a table that there is not.
    """

    def block(match: re.Match) -> str:
        return f"<!-- bench: {match[1]} -->\n{BLOCKS[match[1]](found)}<!-- end -->"

    return re.sub(r"<!-- bench: ([\w ]+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def main() -> int:
    """Writes the pages and the plots."""
    found = json.loads(RESULTS.read_text())
    for name in PAGES:
        page = ROOT / name
        page.write_text(filled(page.read_text(), found))
    plots.draw(found, ROOT / "docs/images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
