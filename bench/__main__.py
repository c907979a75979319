"""Command line of the benchmark."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import compare, machine, report, run, shapes
from bench.limits import ITEM_BYTES
from bench.plan import OF_NO_SHAPE, PARTS, PASSES, Plan
from bench.shapes import OWN, STACKS, WORKLOADS, Shape, Stack, Workload

RUNS, FULL_RUNS = 3, 5
ROUNDS, ROUNDS_OF_ONE = 2, 5  # a single run's spread is that of its rounds
BUDGET = 0.015  # seconds per contestant and round
FULL_DTYPES = ("float32", "bfloat16")
INTERRUPTED = 130  # what shells make of Ctrl-C


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
    parser.add_argument(
        "--only", choices=PARTS, metavar="PART",
        help="; ".join(f"{name!r}: {what}" for name, what in PARTS.items()),
    )  # fmt: skip
    parser.add_argument("--dtype", choices=list(ITEM_BYTES), help="default float32")
    parser.add_argument(
        "--runs", type=int, help="processes that measure the same, one after the other; the spread "
        f"is that between them, and of a single one that between its rounds; default {RUNS}, "
        f"with --full {FULL_RUNS}",
    )  # fmt: skip
    parser.add_argument(
        "--full", action="store_true",
        help="everything: float32 and bfloat16, with and without --jit, all shapes on one thread, "
        "too, and called from Python, memory for every number of inputs, and the grid",
    )  # fmt: skip
    there = len(machine.cpus())
    parser.add_argument("--threads", type=int, default=min(2, there), help="default 2")
    parser.add_argument("--out", type=Path, default=Path("out/bench.json"))
    parser.add_argument(
        "--jit", action="store_true",
        help="all compiled by XLA; forward and backward only, unless with --full",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.runs is None:
        options.runs = FULL_RUNS if options.full else RUNS
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    if not 1 <= options.threads <= there:
        parser.error(f"--threads {options.threads}: this process may run on {there} processors")
    # Of what --also asks for nothing is dropped without a word.
    only = options.only or ("--jit" if options.jit and not options.full else "")
    for own in options.also:
        stack = isinstance(own, Stack)
        if stack and (options.dtype or "float32") != "float32":
            parser.error(f"--also {own.name!r}: a stack is timed in float32, not {options.dtype}")
        if stack and only not in ("", "models"):
            parser.error(f"--also {own.name!r}: {only} times no stack of layers")
        if not stack and only in OF_NO_SHAPE:
            parser.error(f"--also {own.name!r}: {only} times no shape of one layer")
    return options


def _parts(
    options: argparse.Namespace, workloads: Sequence[Workload], stacks: Sequence[Stack]
) -> list[str]:
    """What is asked for, of PARTS, and has something to time."""
    wanted = list(PARTS)
    if options.only:
        wanted = [options.only]
    elif options.jit and not options.full:  # XLA compiles neither the core nor other processes
        wanted = list(PASSES)
    elif not options.full:
        wanted.remove("grid")
        if options.shapes is not None:
            wanted = [part for part in wanted if part not in ("memory", "load")]
    none = {part for part in PARTS if part not in OF_NO_SHAPE} if not workloads else set()
    return [part for part in wanted if part not in none and (stacks or part != "models")]


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


def _plan(options: argparse.Namespace) -> Plan:
    workloads, stacks = _chosen(options)
    dtypes = FULL_DTYPES if options.full else ("float32",)
    return Plan(
        workloads=workloads,
        stacks=stacks,
        parts=_parts(options, workloads, stacks),
        dtypes=(options.dtype,) if options.dtype else dtypes,
        jits=(True,) if options.jit else (False, True) if options.full else (False,),
        threads=options.threads,
        runs=options.runs,
        rounds=ROUNDS if options.runs > 1 else ROUNDS_OF_ONE,
        budget=BUDGET,
        full=options.full,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark, or compares two results.

    Returns:
        0 when it did, 1 when there is no op or no limit to compare with, 2 for a wrong option, 130
        after Ctrl-C.
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
    try:
        # First of all: later, other threads would be there to disturb it.
        measured = machine.measure(plan.thread_counts)
        found = run.Run(plan, measured, arguments).run()
    except KeyboardInterrupt:
        print("Interrupted before anything was timed.", file=sys.stderr)
        return INTERRUPTED
    except (run.NoOp, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1

    # First, so that nothing is lost should a table fail.
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(report.to_json(found))
    report.show(report.text(found))
    print(f"\nAll figures: {options.out}")
    return INTERRUPTED if found["interrupted"] else 0


if __name__ == "__main__":
    sys.exit(main())
