"""Command line of the benchmark."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.shapes import SHAPES, Shape

ROUNDS, BUDGET = 15, 0.05  # seconds per contestant and round
QUICK_ROUNDS, QUICK_BUDGET = 3, 0.01


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Times the op against plain reuse, concat and XLA, inside the graph.",
    )
    parser.add_argument(
        "--shapes", default="", metavar="TEXT", help="only those with it in the name"
    )
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    parser.add_argument("--out", type=Path, default=Path("out/bench.json"))
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--forward", action="store_true", help="only forward")
    only.add_argument("--backward", action="store_true", help="only forward and backward")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = QUICK_ROUNDS if options.quick else ROUNDS
    for name in ("rounds", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return options


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Sends what is written to stderr to nowhere."""
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _import_tensorflow(threads: int) -> None:
    """With the settings that are read at import only."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # this is a benchmark of the CPU
    os.environ["OPENBLAS_NUM_THREADS"] = str(threads)  # NumPy, which measures the limit
    with _quiet():  # a few lines that TensorFlow logs when imported heed no log level
        import tensorflow  # noqa: F401


def _timed(shape: Shape, backward: bool, rounds: int, budget: float) -> dict:
    """One row of the results: all contestants on one shape."""
    from bench import contestants, report, timing

    operands = contestants.make_operands(shape)
    layers = contestants.contestants(backward)
    results = 2 * len(shape.rows) + 2 if backward else len(shape.rows)
    seconds = timing.measure(layers, operands, results, rounds, budget)
    us = {name: timing.microseconds(values) for name, values in seconds.items()}
    return {
        "shape": shape.name,
        **shape._asdict(),
        "pass": "forward+backward" if backward else "forward",
        "us": us,
        "ratio": {name: timing.ratios(seconds, name) for name in report.OTHERS},
        "gflop": shape.flops(backward) / 1e9,
        "gflops": shape.flops(backward) / us["op"] / 1e3,
    }


def _errors(shape: Shape, backward: bool) -> dict:
    """How far from float64 the op and plain reuse are."""
    from bench import contestants

    operands = contestants.make_operands(shape)
    layers = contestants.contestants(backward)
    return {name: contestants.error(layers[name], operands, backward) for name in ("op", "plain")}


def _run(shapes: list[Shape], options: argparse.Namespace) -> dict:
    """Everything that goes into the report."""
    from tqdm import tqdm

    from bench import report, timing

    budget = QUICK_BUDGET if options.quick else BUDGET
    peak_times = 3 if options.quick else 10
    passes = [False] * (not options.backward) + [True] * (not options.forward)
    work = [(shape, backward) for backward in passes for shape in shapes]

    peak = timing.fma_peak(peak_times)
    rows = []
    for shape, backward in (bar := tqdm(work, unit="shape", leave=False, disable=None)):
        bar.set_description(shape.name)
        rows.append(_timed(shape, backward, options.rounds, budget))
    # Not between the timings: NumPy's threads keep spinning for a while.
    for (shape, backward), row in zip(work, rows, strict=True):
        row["error"] = _errors(shape, backward)
    peak = max(peak, timing.fma_peak(peak_times)) / 1e9
    for row in rows:
        row["of_limit"] = row["gflops"] / peak
    return {
        "machine": report.machine(options.threads),
        "versions": report.versions(),
        "rounds": options.rounds,
        "quick": options.quick,
        "limit": {
            "gflops": peak,
            "proxy": "a proxy for the FMA peak: NumPy's best "
            f"{timing.PEAK_SIZE}x{timing.PEAK_SIZE} float32 matmul on as many threads",
        },
        "results": rows,
        "geometric_means": {
            key: report.geometric_means([row for row in rows if row["pass"] == key])
            for key in report.PASSES
            if any(row["pass"] == key for row in rows)
        },
    }


def main() -> int:
    """Runs the benchmark; 0 when it did, 1 when there is no op, 2 for a wrong option."""
    options = _options()
    shapes = [shape for shape in SHAPES if options.shapes in shape.name]
    if not shapes:
        names = "\n  ".join(shape.name for shape in SHAPES)
        print(f"No shape has {options.shapes!r} in its name:\n  {names}", file=sys.stderr)
        return 2
    _import_tensorflow(options.threads)
    import shared_dense as sd
    from bench import report, timing

    timing.prepare(options.threads)
    if not sd.status().available:
        print(f"There is no op to time: {sd.status().reason}", file=sys.stderr)
        return 1
    found = _run(shapes, options)
    if sd.status().last_path != "op":
        print(f"The op did not run: {sd.status().last_reason}", file=sys.stderr)
        return 1

    print(report.text(found))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"\nAll figures: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
