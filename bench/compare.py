"""What changed from one result of the benchmark to another: `python -m bench compare A B`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.report import machine, show
from bench.run import FORMAT, KEY, key
from bench.tables import over, table

# The contestants of which a section with times tells.
SECTIONS = {
    "results": ("op", "plain"),
    "eager": ("op", "layer", "keras"),
    "grid": ("op", "plain"),
    "kernel_only": ("core", "numpy"),
    "peers": ("",),
    "models": ("shared", "dense", "concat"),
}
MACHINE = ("cpu", "cores", "isa", "caches")


def _name(which: Sequence) -> str:
    named = dict(zip(KEY, which, strict=True))
    words = [named["peer"], named["model"], named["shape"], named["pass"], named["dtype"]]
    words.append(f"{named['threads']}t")
    words += ["jit"] if named["jit"] else []
    words += ["cold"] if named["cold"] else []
    return " ".join(word for word in words if word)


def _us(row: dict, name: str) -> dict | None:
    return row["us"].get(name) if name else row["us"]


def _cell(a: dict | None, b: dict | None) -> str:
    """Of two times; marked where the spreads do not overlap."""
    found = over(a, b)
    if not found:
        return ""
    mark = "+" * (found["high"] < 1) + "!" * (found["low"] > 1)
    return f"{found['median']:.3f} [{found['low']:.3f}, {found['high']:.3f}] {mark}".rstrip()


def _section(title: str, names: Sequence[str], a: list[dict], b: list[dict]) -> list[str]:
    before, after = ({key(row): row for row in rows} for rows in (a, b))
    rows = [
        [_name(which), *(_cell(_us(before[which], n), _us(after[which], n)) for n in names)]
        for which in before
        if which in after
    ]
    lines = [f"\n{table([title, *(name or 'time' for name in names)], rows)}"] if rows else []
    for which, here, there in (("first", before, after), ("second", after, before)):
        alone = [_name(one) for one in here if one not in there]
        if alone:
            lines.append(f"\n{title}: {len(alone)} only in the {which}, such as {alone[0]}")
    return lines


def reproduced(a: dict, b: dict) -> list[str]:
    """How far the second's ratios are from the first's, in words: what a speed-up is worth."""
    off, within = [], 0
    for section in SECTIONS:
        after = {key(row): row.get("ratio", {}) for row in b[section]}  # peers have none
        for row in a[section]:
            ratios, others = row.get("ratio", {}), after.get(key(row), {})
            for name in ratios.keys() & others.keys():
                first, second = ratios[name], others[name]["median"]
                off.append(abs(math.log(second / first["median"])))
                within += first["low"] <= second <= first["high"]
    if not off:
        return []
    half, most = (math.expm1(value) for value in np.percentile(off, [50, 90]))
    return [
        "",
        f"Ratios in both: {len(off)}. Half of the second's are within {half:.0%} of the first's, "
        f"nine tenths within {most:.0%}; {within / len(off):.0%} are within the first's spread.",
    ]


def text(a: dict, b: dict) -> str:
    """The table, with what is needed to read it."""
    lines = [f"{which}: {machine(found)}" for which, found in (("first", a), ("second", b))]
    lines.append(
        "Time of the second over that of the first [least, most that the spreads of both allow]; "
        "changed by more than the spread: + faster, ! slower. Where plain reuse, too, has changed, "
        "so has the machine."
    )
    for section, names in SECTIONS.items():
        lines += _section(section.replace("_", " "), names, a[section], b[section])
    return "\n".join(lines + reproduced(a, b))


def _read(path: Path) -> dict:
    """A result.

    Raises:
        ValueError: it is none, or of another layout; the message says so.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    layout = found.get("format") if isinstance(found, dict) else None
    if layout != FORMAT:
        raise ValueError(
            f"{path} has layout {layout}, and this benchmark reads {FORMAT}; measure again"
        )
    return found


def main(arguments: Sequence[str]) -> int:
    """Prints what changed.

    Returns:
        0 when it did, 2 for files that cannot be read or are of different machines.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bench compare",
        description="Prints, row by row, the times of the second result over those of the first, "
        "and marks what changed by more than the spread.",
    )
    parser.add_argument("first", type=Path, help="a JSON that the benchmark wrote")
    parser.add_argument("second", type=Path, help="another one")
    parser.add_argument(
        "--force", action="store_true", help="compare results of different machines all the same"
    )
    options = parser.parse_args(arguments)
    try:
        a, b = _read(options.first), _read(options.second)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    of_a, of_b = a["machine"], b["machine"]
    different = [f"{f} {of_a[f]} against {of_b[f]}" for f in MACHINE if of_a[f] != of_b[f]]
    if different:
        print(
            f"Different machines: {'; '.join(different)}\n"
            "Their times tell nothing about the code; --force compares them all the same.",
            file=sys.stderr,
        )
        if not options.force:
            return 2
    show(text(a, b))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
