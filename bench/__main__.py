"""Command line of the benchmark."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import machine, shapes
from bench.limits import ITEM_BYTES
from bench.shapes import SHAPES, Shape

ROUNDS, BUDGET = 15, 0.05  # seconds per contestant and round
QUICK_ROUNDS, QUICK_BUDGET = 3, 0.01
INTERRUPTED = 130  # what shells make of Ctrl-C
# Set to keep the NumPy of other programs small or the same everywhere, they would slow it here.
SLOW_NUMPY = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def _shape(text: str) -> Shape:
    try:
        return shapes.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Times the op against plain reuse, concat and XLA, inside the graph; the core "
        "alone against NumPy; everything against the limit of the machine. Ctrl-C keeps what is "
        "complete.",
    )
    parser.add_argument(
        "--shapes", default="", metavar="TEXT", help="only those of ours with it in the name"
    )
    parser.add_argument(
        "--also", action="append", default=[], type=_shape, metavar="SHAPE",
        help="a shape of your own, such as '8x3 1000->700' or '2x[2000,500] 64->1'; may be "
        "repeated; with --shapes none, nothing but yours",
    )  # fmt: skip
    parser.add_argument("--dtype", choices=list(ITEM_BYTES), default="float32")
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    parser.add_argument("--out", type=Path, default=Path("out/bench.json"))
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--forward", action="store_true", help="only forward")
    only.add_argument("--backward", action="store_true", help="only forward and backward")
    only.add_argument("--kernel-only", action="store_true", help="only the core against NumPy")
    only.add_argument("--memory", action="store_true", help="only the memory needed")
    parser.add_argument(
        "--jit", action="store_true",
        help="the op, plain reuse and concat all compiled by XLA; forward and backward only",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = QUICK_ROUNDS if options.quick else ROUNDS
    for name in ("rounds", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return options


def _parts(options: argparse.Namespace) -> list[str]:
    """What is asked for, of run.PARTS."""
    asked = {
        "forward": options.forward,
        "forward+backward": options.backward,
        "kernel only": options.kernel_only,
        "memory": options.memory,
    }
    # XLA compiles neither the core alone nor the processes whose memory is measured.
    every = list(asked)[:2] if options.jit else list(asked)
    return [part for part, only in asked.items() if only] or every


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


def _import_tensorflow() -> None:
    """With the settings that are read at import only."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # this is a benchmark of the CPU
    with _quiet():  # a few lines that TensorFlow logs when imported heed no log level
        import tensorflow  # noqa: F401


def _why_no_op(dtype: str) -> str:
    """Why the op does not run in this dtype; "" where it does."""
    import shared_dense as sd
    from bench import contestants

    status = sd.status()
    if not status.available:
        return status.reason
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the fallback, which is told below
        contestants.op(contestants.make_operands(Shape((1,), 1, 1), dtype))
    status = sd.status()
    return "" if status.last_path == "op" else status.last_reason


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark.

    Returns:
        0 when it did, 1 when there is no op to time, 2 for a wrong option, 130 after Ctrl-C.
    """
    options = _options(arguments)
    chosen = [shape for shape in SHAPES if options.shapes in shape.name]
    chosen += [shape for shape in options.also if shape not in chosen]
    if not chosen:
        names = "\n  ".join(shape.name for shape in SHAPES)
        print(f"No shape has {options.shapes!r} in its name:\n  {names}", file=sys.stderr)
        return 2
    for variable in SLOW_NUMPY:  # before NumPy is imported, here and in the processes started
        os.environ.pop(variable, None)
    os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads)
    try:
        # First of all: later, other threads would be there to disturb it.
        measured = machine.measure(sorted({1, options.threads}), options.quick)
        _import_tensorflow()
        from bench import report, run, timing

        timing.prepare(options.threads)
        reason = _why_no_op(options.dtype)
    except KeyboardInterrupt:
        print("Interrupted before anything was timed.", file=sys.stderr)
        return INTERRUPTED
    if reason:
        print(f"There is no op to time in {options.dtype}: {reason}", file=sys.stderr)
        return 1
    budget = QUICK_BUDGET if options.quick else BUDGET
    found = run.run(
        run.Plan(
            shapes=chosen,
            parts=_parts(options),
            dtype=options.dtype,
            threads=options.threads,
            rounds=options.rounds,
            budget=budget,
            jit=options.jit,
            quick=options.quick,
        ),
        measured,
    )

    print(report.text(found))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"\nAll figures: {options.out}")
    return INTERRUPTED if found["interrupted"] else 0


if __name__ == "__main__":
    sys.exit(main())
