"""What changed from one result of the benchmark to another: `python -m bench compare A B`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.run import FORMAT, KEY, key

# The contestants of which a section with times tells.
SECTIONS = {
    "results": ("op", "plain"),
    "eager": ("op", "plain", "layer", "keras"),
    "grid": ("op", "plain"),
    "kernel_only": ("core", "numpy"),
    "peers": ("",),
    "models": ("shared", "dense", "concat"),
}
MACHINE = ("cpu", "cores", "isa", "caches")


def _us(row: dict, name: str) -> dict[str, float]:
    return row["us"][name] if name else row["us"]


def ratio(a: dict[str, float], b: dict[str, float]) -> dict:
    """B's median over A's, the least and the most that their spreads allow, and whether it
    changed: by more than the spread, that is where the two do not overlap.
    """
    least, most = b["low"] / a["high"], b["high"] / a["low"]
    return {
        "median": b["median"] / a["median"],
        "least": least,
        "most": most,
        "changed": not least <= 1 <= most,
    }


def differences(a: dict, b: dict) -> list[str]:
    """In what the machines differ, in words."""
    return [
        f"{field} {a['machine'][field]} against {b['machine'][field]}"
        for field in MACHINE
        if a["machine"][field] != b["machine"][field]
    ]


def _name(which: Sequence) -> str:
    named = dict(zip(KEY, which, strict=True))
    words = [named["peer"], named["model"], named["shape"], named["pass"], named["dtype"]]
    words.append(f"{named['threads']}t")
    words += ["jit"] if named["jit"] else []
    words += ["cold"] if named["cold"] else []
    return " ".join(word for word in words if word)


def _cell(found: dict) -> str:
    mark = " " if not found["changed"] else "+" if found["median"] < 1 else "!"
    return f"{found['median']:.3f} [{found['least']:.3f}, {found['most']:.3f}] {mark}"


def _section(title: str, names: Sequence[str], a: list[dict], b: list[dict]) -> list[str]:
    before, after = ({key(row): row for row in rows} for rows in (a, b))
    both = [which for which in before if which in after]
    lines = []
    if both:
        width = max(len(_name(which)) for which in both)
        head = "".join(f"{name or 'time':>26}" for name in names)
        lines += ["", title, f"{'':<{width}}{head}"]
        for which in both:
            a_row, b_row = before[which], after[which]
            cells = ""
            for name in names:
                known = not name or name in a_row["us"].keys() & b_row["us"].keys()
                cell = _cell(ratio(_us(a_row, name), _us(b_row, name))) if known else ""
                cells += f"{cell:>26}"
            lines.append(f"{_name(which):<{width}}{cells}".rstrip())
    for which, here, there in (("first", before, after), ("second", after, before)):
        alone = [one for one in here if one not in there]
        if alone:
            more = f", such as {_name(alone[0])}" if len(alone) > 1 else f": {_name(alone[0])}"
            lines += ["", f"{title}: {len(alone)} only in the {which}{more}"]
    return lines


def reproduced(a: dict, b: dict) -> list[str]:
    """How far the second's ratios are from the first's, in words: what a speed-up is worth."""
    off, within = [], 0
    for section in SECTIONS:
        after = {key(row): row for row in b[section]}
        for row in a[section]:
            ratios = row.get("ratio", {})  # peers have none
            for name in ratios.keys() & after.get(key(row), {}).get("ratio", {}).keys():
                first, second = ratios[name], after[key(row)]["ratio"][name]["median"]
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
    lines = []
    for which, found in (("first", a), ("second", b)):
        made = found["commit"]
        revision = "no git checkout"
        if made:
            revision = f"commit {made['hash'][:12]}" + (", with changes" if made["dirty"] else "")
        lines.append(f"{which}: {revision}, {found['date']}; {found['command']}")
    for name in sorted(a["versions"].keys() | b["versions"].keys()):
        old, new = a["versions"].get(name), b["versions"].get(name)
        if old != new:
            lines.append(f"{name}: {old}, then {new}")
    lines.append(
        "time of the second over that of the first [least, most that the spreads of both allow]; "
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
    different = differences(a, b)
    if different:
        print(f"Different machines: {'; '.join(different)}", file=sys.stderr)
        if not options.force:
            print(
                "Their times tell nothing about the code; --force compares them all the same.",
                file=sys.stderr,
            )
            return 2
    print(text(a, b))
    return 0
