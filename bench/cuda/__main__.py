"""Command line of the benchmark on a GPU."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.cuda import build, report, targets
from bench.cuda.cases import CASES, ITEM_BYTES, Case
from bench.shapes import parse

ROUNDS = 25


def _case(text: str) -> Case:
    """Of a name as the table has it: '8x3 1000->700 bfloat16 backward'."""
    words = text.split()
    backward = words[-1:] == ["backward"]
    words = words[: len(words) - backward]
    if len(words) != 3 or words[2] not in ITEM_BYTES:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no case; write '8x3 1000->700 bfloat16' (or {', '.join(ITEM_BYTES)}), "
            "with 'backward' behind it or without"
        )
    try:
        return Case(parse(" ".join(words[:2])), words[2], backward)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.cuda",
        description="Compiles csrc/cuda, checks it against float64 and times it on this machine's "
        "GPU, cuBLASLt beside it. Needs an nvcc; no TensorFlow.",
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with it in the name")
    parser.add_argument(
        "--also", action="append", default=[], type=_case, metavar="CASE",
        help="a case of your own, such as '8x3 1000->700 bfloat16 backward'; may be repeated",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default {ROUNDS}")
    parser.add_argument("--out", type=Path, default=Path("out/bench-cuda.json"))
    parser.add_argument("--folder", type=Path, default=Path("out/bench-cuda"), help="of the build")
    parser.add_argument("--program", type=Path, help="one that is built already")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def collect(lines: Iterable[str], cases: Sequence[Case]) -> dict:
    """What `measure` wrote, with its cases by the names that they have here."""
    name_of = {case.argument: case.name for case in cases}
    found: dict = {"device": {}, "limits": {"copy_bytes_per_s": 0.0, "gemm_flops": {}}, "cases": {}}
    for line in lines:
        said = json.loads(line)
        if "device" in said:
            found["device"] = said["device"]
        elif "case" in said:
            found["cases"][name_of[said["case"]]] = said
        else:
            found["limits"] = said
    return found


def _said(*command: str) -> str:
    """The first line of a program's output; "" where it fails or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=build.ROOT, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark.

    Returns:
        0 when every result is right, 1 when one is wrong or there is nothing to run, 2 for a wrong
        option. A missed target is no failure: it is in the table.
    """
    options = _options(arguments)
    cases = [case for case in CASES if options.only in case.name]
    cases += [case for case in options.also if case not in cases]
    if not cases:
        names = "\n  ".join(case.name for case in CASES)
        print(f"No case has {options.only!r} in its name:\n  {names}", file=sys.stderr)
        return 2
    nvcc = "none"
    try:
        if options.program is None:
            compiler = build.find_nvcc()
            nvcc = build.version(compiler)
            print(f"Compiling with nvcc {nvcc} (minutes, once) ...", flush=True)
            options.program = build.build(compiler, options.folder)
    except build.BuildError as error:
        print(error, file=sys.stderr)
        return 1
    environment = dict(os.environ)
    if library := build.cublaslt():
        environment.setdefault("SHARED_DENSE_CUBLASLT", library)
    command = [str(options.program), str(options.rounds), *(case.argument for case in cases)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            print(".", end="", flush=True)
        print()
    found = collect(lines, cases)
    found |= {
        "driver": _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "commit": _said("git", "describe", "--always", "--dirty") or "unknown",
        "nvcc": nvcc,
        "python": platform.python_version(),
        "rounds": options.rounds,
    }
    complete = len(found["cases"]) == len(cases)
    verdicts = targets.judge(found["cases"], found["limits"])
    found["targets"] = [verdict._asdict() for verdict in verdicts]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(report.text(found, cases, verdicts))
    print(f"\nAll figures: {options.out}")
    if not complete:
        print(
            f"measure ended with status {process.returncode} after {len(found['cases'])} of "
            f"{len(cases)} cases: see above",
            file=sys.stderr,
        )
    right = all(row["right"] for row in found["cases"].values())
    return 0 if complete and right and process.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
