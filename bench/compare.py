"""What changed from one result of the benchmark to another: `python -m bench compare A B`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.run import FORMAT

# What identifies a row of a section with times, and the contestants of which it tells.
KEY = ("peer", "shape", "pass", "dtype", "threads", "jit", "kernels")
SECTIONS = {
    "results": ("op", "plain"),
    "eager": ("op", "plain", "layer", "keras"),
    "grid": ("op", "plain"),
    "kernel_only": ("core", "numpy"),
    "peers": ("",),
    "models": ("shared", "dense", "concat"),
}
MACHINE = ("cpu", "cores", "isa", "caches")


def _key(row: dict) -> tuple:
    return tuple(row.get(field) for field in KEY)


def _us(row: dict, name: str) -> dict[str, float]:
    return row["us"][name] if name else row["us"]


def ratio(a: dict[str, float], b: dict[str, float]) -> dict:
    """B's median over A's, the least and the most that their quartiles allow, and whether it
    changed: by more than the spread, that is where the two do not overlap.
    """
    least, most = b["q1"] / a["q3"], b["q3"] / a["q1"]
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


def _name(key: Sequence) -> str:
    named = dict(zip(KEY, key, strict=True))
    words = [named["peer"], named["shape"], named["pass"], named["dtype"]]
    words.append(f"{named['threads']}t")
    words += ["jit"] if named["jit"] else []
    words += ["cold"] if named["kernels"] > 1 else []
    return " ".join(word for word in words if word)


def _cell(found: dict) -> str:
    mark = " " if not found["changed"] else "+" if found["median"] < 1 else "!"
    return f"{found['median']:.3f} [{found['least']:.3f}, {found['most']:.3f}] {mark}"


def _section(title: str, names: Sequence[str], a: list[dict], b: list[dict]) -> list[str]:
    before, after = ({_key(row): row for row in rows} for rows in (a, b))
    both = [key for key in before if key in after]
    lines = []
    if both:
        width = max(len(_name(key)) for key in both)
        head = "".join(f"{name or 'time':>26}" for name in names)
        lines += ["", title, f"{'':<{width}}{head}"]
        for key in both:
            cells = ""
            for name in names:
                known = not name or name in before[key]["us"].keys() & after[key]["us"].keys()
                cell = _cell(ratio(_us(before[key], name), _us(after[key], name))) if known else ""
                cells += f"{cell:>26}"
            lines.append(f"{_name(key):<{width}}{cells}".rstrip())
    for which, here, there in (("first", before, after), ("second", after, before)):
        alone = [key for key in here if key not in there]
        if alone:
            more = f", such as {_name(alone[0])}" if len(alone) > 1 else f": {_name(alone[0])}"
            lines += ["", f"{title}: {len(alone)} only in the {which}{more}"]
    return lines


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
        "time of the second over that of the first [least, most that the quartiles of both allow]; "
        "changed by more than the spread: + faster, ! slower. Where plain reuse, too, has changed, "
        "so has the machine."
    )
    for section, names in SECTIONS.items():
        lines += _section(section.replace("_", " "), names, a[section], b[section])
    return "\n".join(lines)


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
