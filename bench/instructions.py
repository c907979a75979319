"""Counts the core's instructions: `make callgrind`, or `python -m bench.instructions [--update]`.

Times depend on who else uses the machine; what callgrind counts does not. So a change that makes a
product slower by a few per cent shows here, and in a test. The counts that are right are kept in
instructions.json and change on purpose only, by `make callgrind UPDATE=1`.

Counts of one build are the same on every run, while compilers differ by far more than what is
looked for (Clang 14 makes 0.72 to 1.18 times GCC 12's). So counts are compared where the conditions
are those of the file, and only shown elsewhere. TOLERANCE leaves room for the parts of the C
library and of the C++ headers that are counted with the core.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "bench" / "instructions.cc"
KEPT = ROOT / "bench" / "instructions.json"
BUILD = ROOT / "build" / "instructions"
TOLERANCE = 0.02
NEEDS = {"valgrind": "valgrind", "cmake": "cmake", "c++": "g++"}  # program: Debian's package
UPDATE = "if that is what you want: make callgrind UPDATE=1"


class Counted(NamedTuple):
    """Instructions of each product, and what they depend on besides the sources."""

    conditions: dict[str, str]
    counts: dict[str, int]


def _find(program: str) -> str | None:
    beside = str(Path(sys.executable).parent)  # where pip puts CMake
    return shutil.which(program, path=os.pathsep.join([beside, os.environ.get("PATH", "")]))


def missing() -> str:
    """Why nothing can be counted here; "" where it can."""
    absent = [package for program, package in NEEDS.items() if _find(program) is None]
    if valgrind := _find("valgrind"):
        header = Path(valgrind).parent.parent / "include" / "valgrind" / "callgrind.h"
        absent += [] if header.exists() else [f"{header} (valgrind)"]
    return f"needs {' and '.join(absent)}: apt-get install {' '.join(absent)}" if absent else ""


def _run(program: str | Path, *arguments: str | Path, cwd: Path = ROOT) -> str:
    command = [_find(str(program)) or program, *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd)
    if done.returncode != 0:
        raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def build(folder: Path = BUILD) -> Path:
    """Compiles the core, as it is shipped, and the program that calls it.

    Args:
        folder: where objects are kept; what is up to date is not compiled again.

    Returns:
        The program.

    Raises:
        RuntimeError: the compiler or CMake fails; the message holds what it said.
    """
    compiler = os.environ.get("CXX", "c++")
    folder /= re.sub(r"\W+", "-", compiler)  # CMake keeps to the compiler that it found first
    only_the_core = [f"-DSHARED_DENSE_{name}=OFF" for name in ("WITH_TENSORFLOW", "WITH_PYTHON")]
    shipped = "-DSHARED_DENSE_TEST_ISAS=OFF"
    _run("cmake", "-S", ROOT, "-B", folder, *only_the_core, shipped)
    _run("cmake", "--build", folder, "--parallel", str(os.cpu_count() or 1))
    # Bound before main(): looking up a symbol at its first call would be counted. Of the C++
    # library what the compiler came with, not what the system has.
    links = ("-pthread", "-static-libstdc++", "-static-libgcc", "-Wl,-z,now")
    core, program = folder / "libshared_dense_core.a", folder / "instructions"
    _run(
        *compiler.split(), "-std=c++17", "-O2", "-I", ROOT / "csrc", SOURCE, core, *links,
        "-o", program,
    )  # fmt: skip
    return program


def count(program: Path, calls: int = 1, text: str = "") -> Counted:
    """Runs the program under callgrind, for some seconds.

    Args:
        program: what `build` made.
        calls: how often each product is called within its count.
        text: what the names of the products to count hold.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        said = _run(
            "valgrind", "-q", "--tool=callgrind", "--collect-atstart=no",
            "--callgrind-out-file=dump", program, str(calls), text, cwd=folder,
        )  # fmt: skip
        counts = {}
        # dump.1, dump.2, ...: one for each product, in order.
        for dump in sorted(folder.glob("dump.*"), key=lambda path: int(path.suffix[1:])):
            written = dump.read_text()
            (product,) = re.findall(r"^desc: Trigger: Client Request: (.+)$", written, re.M)
            (total,) = re.findall(r"^totals: (\d+)$", written, re.M)
            counts[product] = int(total)
    info = json.loads((program.parent / "_build_info.json").read_text())
    return Counted({"compiler": info["compiler"], **json.loads(said)}, counts)


def load() -> Counted:
    """The counts that were kept."""
    return Counted(**json.loads(KEPT.read_text()))


def save(counted: Counted) -> None:
    """Keeps the counts."""
    KEPT.write_text(json.dumps(counted._asdict(), indent=1) + "\n")


def differs(kept: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Why counts under these conditions cannot be compared; "" where they can."""
    return "; ".join(
        f"{name} is '{found.get(name)}' here and '{kept.get(name)}' in {KEPT.name}"
        for name in {**kept, **found}
        if kept.get(name) != found.get(name)
    )


def compare(kept: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """What is wrong with the counts that were found, a line each."""
    wrong = []
    for name in {**kept, **found}:
        old, new = kept.get(name), found.get(name)
        if old is None or new is None:
            where = "counted" if new is None else f"in {KEPT.name}"
            wrong.append(f"{name}: not {where} any more or not yet; {UPDATE}")
            continue
        change = f"{name}: {old:,} instructions before, {new:,} now ({new / old - 1:+.1%})"
        if new > old * (1 + TOLERANCE):
            wrong.append(f"{change}: slower; {UPDATE}")
        elif new < old * (1 - TOLERANCE):
            wrong.append(f"{change}: faster; keep it: make callgrind UPDATE=1")
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Counts, compares and says what differs, or keeps the counts.

    Returns:
        1 where a product got slower or faster; 2 where nothing can be counted; else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description=__doc__)
    parser.add_argument("--update", action="store_true", help=f"write {KEPT.name}")
    options = parser.parse_args(arguments)
    if reason := missing():
        print(reason, file=sys.stderr)
        return 2
    print("Compiling the core and counting (half a minute the first time) ...")
    found = count(build())
    kept = load() if KEPT.exists() else Counted({}, {})
    for name, new in found.counts.items():
        old = kept.counts.get(name)
        print(f"{new:12,}  {'' if old is None else f'{new / old - 1:+7.2%}':>8}  {name}")
    if options.update:
        save(found)
        print(f"Wrote {KEPT.relative_to(ROOT)}.")
        return 0
    if reason := differs(kept.conditions, found.conditions):
        print(f"Not compared: {reason}.")
        return 0
    wrong = compare(kept.counts, found.counts)
    print("\n".join(wrong) or f"All within {TOLERANCE:.0%} of {KEPT.name}.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
