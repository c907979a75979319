"""Command line of the benchmark."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import compare, machine, report, run, shapes
from bench.limits import ITEM_BYTES
from bench.shapes import OWN, STACKS, WORKLOADS, Shape, Stack, Workload

RUNS, FULL_RUNS = 3, 5
ROUNDS, BUDGET = 2, 0.015  # seconds per contestant and round
QUICK_RUNS, QUICK_ROUNDS, QUICK_BUDGET = 1, 3, 0.005
FULL_DTYPES = ("float32", "bfloat16")
INTERRUPTED = 130  # what shells make of Ctrl-C
# Set to keep the NumPy of other programs small or the same everywhere, they would slow it here.
SLOW_NUMPY = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def _shape(text: str) -> Shape | Stack:
    try:
        return shapes.parse_any(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Times the op against plain reuse, Keras, concat, stack and XLA, inside the "
        "graph and called from Python; the core alone against NumPy; other libraries where they "
        "are installed; memory, and what comes before the first result; everything against the "
        "limit of the machine. Ctrl-C keeps what is complete.",
        epilog="python -m bench compare A B: what changed from one result to another.",
    )
    parser.add_argument(
        "--shapes", metavar="TEXT", help="of ours only those with it in group, use or name, and "
        "nothing that is of no shape",
    )  # fmt: skip
    parser.add_argument(
        "--also", action="append", default=[], type=_shape, metavar="SHAPE",
        help="a shape of your own, such as '8x3 1000->700' or '2x[2000,500] 64->1', or a stack of "
        "layers, '2x128 512->512->256'; may be repeated; with --shapes none, nothing else",
    )  # fmt: skip
    parser.add_argument("--dtype", choices=list(ITEM_BYTES), help="default float32")
    parser.add_argument(
        "--runs", type=int, help="processes that measure the same, one after the other; the spread "
        f"is that between them, and of a single one that between its rounds; default {RUNS}, "
        f"with --full {FULL_RUNS}",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, help=f"of each run; default {ROUNDS}")
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="one run, fewer and shorter rounds")
    effort.add_argument(
        "--full", action="store_true",
        help="everything: float32 and bfloat16, with and without --jit, all shapes on one thread, "
        "too, and called from Python, memory for every number of inputs, and --grid",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=int, default=min(2, len(machine.cpus())), help="default 2"
    )
    parser.add_argument("--out", type=Path, default=Path("out/bench.json"))
    only = parser.add_mutually_exclusive_group()
    for name in run.PARTS:
        option = "--backward" if name == run.PASSES[1] else f"--{name.replace(' ', '-')}"
        only.add_argument(
            option, dest="only", action="store_const", const=name, help=f"only {ONLY[name]}"
        )
    parser.add_argument(
        "--jit", action="store_true",
        help="all compiled by XLA; forward and backward only, unless with --full",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.runs is None:
        options.runs = QUICK_RUNS if options.quick else FULL_RUNS if options.full else RUNS
    if options.rounds is None:
        options.rounds = QUICK_ROUNDS if options.quick else ROUNDS
    for name in ("runs", "rounds", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1")
    there = len(machine.cpus())
    if options.threads > there:
        parser.error(f"--threads {options.threads}: this process may run on {there} processors")
    _refuse_what_takes_no_part(parser, options)
    return options


def _refuse_what_takes_no_part(
    parser: argparse.ArgumentParser, options: argparse.Namespace
) -> None:
    """Of what `--also` asks for nothing is dropped without a word."""
    only = options.only or ("forward" if options.jit and not options.full else "")
    option = f"--{options.only.replace(' ', '-')}" if options.only else "--jit"
    for own in options.also:
        if isinstance(own, Stack) and (options.dtype or "float32") != "float32":
            parser.error(f"--also {own.name!r}: a stack is timed in float32, not {options.dtype}")
        if isinstance(own, Stack) and only not in ("", "models"):
            parser.error(f"--also {own.name!r}: {option} times no stack of layers")
        if isinstance(own, Shape) and only in OF_NO_SHAPE:
            parser.error(f"--also {own.name!r}: {option} times no shape of one layer")


OF_NO_SHAPE = ("memory", "load", "models", "grid")
ONLY = {
    "forward": "forward",
    "forward+backward": "forward and backward",
    "eager": "calls from Python",
    "kernel only": "the core against NumPy",
    "peers": "other libraries",
    "memory": "the memory needed",
    "load": "imports, loading, tracing and compiling",
    "models": "whole models, with SharedDense and without",
    "grid": "the op over plain reuse, number of inputs x rows of each",
}


def _parts(
    options: argparse.Namespace, workloads: Sequence[Workload], stacks: Sequence[Stack]
) -> list[str]:
    """What is asked for, of run.PARTS, and has something to time."""
    if options.only:
        wanted = [options.only]
    elif options.full:
        wanted = list(run.PARTS)
    elif options.jit:  # XLA compiles neither the core alone nor other processes
        wanted = list(run.PASSES)
    else:
        wanted = [part for part in run.PARTS if part != "grid"]
        if options.shapes is not None:
            wanted = [part for part in wanted if part not in ("memory", "load")]
    none = {part for part in run.PARTS if part not in OF_NO_SHAPE} if not workloads else set()
    if not stacks:
        none.add("models")
    return [part for part in wanted if part not in none]


def _chosen(options: argparse.Namespace) -> tuple[list[Workload], list[Stack]]:
    """The shapes and the stacks to time: ours that `--shapes` names, then the user's."""
    text = options.shapes or ""
    workloads = [w for w in WORKLOADS if any(text in t for t in (w.group, w.use, w.shape.name))]
    stacks = [stack for stack in STACKS if any(text in t for t in (stack.model, stack.name))]
    names = {item.name for item in (*(w.shape for w in workloads), *stacks)}
    for own in dict.fromkeys(options.also):
        if isinstance(own, Stack):
            stacks += [own] * (own.name not in names)
        else:
            workloads += [Workload(OWN, "", own)] * (own.name not in names)
    return workloads, stacks


def _plan(options: argparse.Namespace) -> run.Plan:
    workloads, stacks = _chosen(options)
    dtypes = FULL_DTYPES if options.full else ("float32",)
    return run.Plan(
        workloads=workloads,
        stacks=stacks,
        parts=_parts(options, workloads, stacks),
        dtypes=(options.dtype,) if options.dtype else dtypes,
        jits=(True,) if options.jit else (False, True) if options.full else (False,),
        threads=options.threads,
        runs=options.runs,
        rounds=options.rounds,
        budget=QUICK_BUDGET if options.quick else BUDGET,
        full=options.full,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark, or compares two results.

    Returns:
        0 when it did, 1 when there is no op to time, 2 for a wrong option, 130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["compare"]:
        return compare.main(arguments[1:])
    options = _options(arguments)
    plan = _plan(options)
    if not plan.parts:
        ours = [f"{w.shape.name:<34} {w.group}: {w.use}" for w in WORKLOADS]
        ours += [f"{stack.name:<34} whole model: {stack.model}" for stack in STACKS]
        print(f"Nothing to time has {options.shapes!r} in its name, of:", file=sys.stderr)
        print(*ours, sep="\n  ", file=sys.stderr)
        return 2
    for variable in SLOW_NUMPY:  # before NumPy is imported in the processes started
        os.environ.pop(variable, None)
    try:
        # First of all: later, other threads would be there to disturb it.
        measured = machine.measure(plan.thread_counts, options.quick)
        found = run.Run(plan, measured, arguments).run()
    except KeyboardInterrupt:
        print("Interrupted before anything was timed.", file=sys.stderr)
        return INTERRUPTED
    except run.NoOp as error:
        print(error, file=sys.stderr)
        return 1

    # First, so that nothing is lost should a table fail.
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(report.to_json(found))
    print(report.text(found))
    print(f"\nAll figures: {options.out}")
    return INTERRUPTED if found["interrupted"] else 0


if __name__ == "__main__":
    sys.exit(main())
