"""Goes through everything that is measured, shape by shape, and keeps what there is on Ctrl-C."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tqdm import tqdm

from bench import contestants, kernel_only, limits, machine, medians, memory, report, timing
from bench.shapes import Shape

PARTS = ("forward", "forward+backward", "kernel only", "memory")


class Plan(NamedTuple):
    """What to measure, and how thoroughly."""

    shapes: Sequence[Shape]
    parts: Sequence[str]  # of PARTS
    dtype: str  # of limits.ITEM_BYTES
    threads: int
    rounds: int
    budget: float  # seconds per contestant and round
    jit: bool  # whether XLA compiles all contestants
    quick: bool  # whether rounds and budget are those of --quick

    @property
    def thread_counts(self) -> list[int]:
        """Numbers of threads to measure the machine and the kernel alone at."""
        return sorted({1, self.threads})


def timed(shape: Shape, backward: bool, plan: Plan, best: limits.Machine) -> dict:
    """One row of the results: all contestants on one shape, and its limit."""
    operands = contestants.make_operands(shape, plan.dtype)
    layers = contestants.contestants(backward, plan.jit)
    results = 2 * len(shape.rows) + 2 if backward else len(shape.rows)
    seconds = timing.measure(layers, operands, results, plan.rounds, plan.budget)
    us = {name: medians.microseconds(values) for name, values in seconds.items()}
    return {
        "shape": shape.name,
        **shape._asdict(),
        "pass": "forward+backward" if backward else "forward",
        "us": us,
        "ratio": {name: medians.ratios(seconds, name) for name in seconds if name != "op"},
        "gflop": shape.flops(backward) / 1e9,
        "gflops": shape.flops(backward) / us["op"] / 1e3,
        **_of_limit(limits.limit(shape, backward, plan.dtype, best), us["op"]),
        "floor_us": 1e6 * limits.floor(shape, backward, plan.dtype, best).seconds,
    }


def _of_limit(limit: limits.Limit, us: float) -> dict:
    return {
        "limit_us": 1e6 * limit.seconds,
        "limit_by": limit.by,
        "of_limit": 1e6 * limit.seconds / us,
    }


def errors(shape: Shape, backward: bool, plan: Plan) -> dict[str, float]:
    """How far from float64 the op and plain reuse are."""
    operands = contestants.make_operands(shape, plan.dtype)
    layers = contestants.contestants(backward, plan.jit)
    return {name: contestants.error(layers[name], operands, backward) for name in ("op", "plain")}


def described(measured: machine.Measured, plan: Plan) -> dict:
    """The machine's limits as the report keeps them: rates per second, capacities in bytes."""
    best = measured.machines[plan.threads]
    return {
        "gflops": best.fma[limits.FMA_DTYPE[plan.dtype]] / 1e9,
        "source": measured.source,
        "machines": [
            {
                "threads": threads,
                "fma": found.fma,
                "levels": [
                    # DRAM holds everything, but infinity is no JSON.
                    {**level._asdict(), "capacity": None}
                    if level.capacity == float("inf")
                    else level._asdict()
                    for level in found.levels
                ],
            }
            for threads, found in measured.machines.items()
        ],
    }


def run(plan: Plan, measured: machine.Measured) -> dict:
    """Everything that goes into the report; after Ctrl-C, what was complete by then."""
    found: dict = {
        "machine": report.machine(plan.threads),
        "versions": report.versions(),
        "dtype": plan.dtype,
        "jit": plan.jit,
        "rounds": plan.rounds,
        "quick": plan.quick,
        "interrupted": False,
        "limit": described(measured, plan),
        "results": [],
        "kernel_only": [],
    }
    work = [
        (shape, name == "forward+backward")
        for name in report.PASSES
        if name in plan.parts
        for shape in plan.shapes
    ]
    alone = plan.thread_counts if _kernel_only_too(plan) else []
    total = len(work) + len(alone) * len(plan.shapes) + ("memory" in plan.parts)
    try:
        with tqdm(total=total, unit="shape", leave=False, disable=None) as bar:
            for shape, backward in work:
                bar.set_description(shape.name)
                best = measured.machines[plan.threads]
                found["results"].append(timed(shape, backward, plan, best))
                bar.update()
            try:
                for threads in alone:
                    _kernel_only(found, plan, threads, measured.machines[threads], bar)
            except RuntimeError as error:  # of another process: what this one measured is kept
                found["kernel_only_failed"] = str(error)
            if "memory" in plan.parts:
                bar.set_description("memory")
                found["memory"] = memory.measure(plan.threads, plan.dtype)
                bar.update()
        # Not between the timings: NumPy's threads keep spinning for a while.
        for (shape, backward), row in zip(work, found["results"], strict=True):
            row["error"] = errors(shape, backward, plan)
    except KeyboardInterrupt:
        found["interrupted"] = True
    found["geometric_means"] = {
        key: report.geometric_means(rows)
        for key in report.PASSES
        if (rows := [row for row in found["results"] if row["pass"] == key])
    }
    return found


def _kernel_only_too(plan: Plan) -> bool:
    return "kernel only" in plan.parts and plan.dtype in kernel_only.DTYPES


def _kernel_only(found: dict, plan: Plan, threads: int, best: limits.Machine, bar: tqdm) -> None:
    bar.set_description(f"kernel only, {threads} threads")
    lines = kernel_only.measure(plan.shapes, plan.dtype, threads, plan.rounds, plan.budget)
    found["blas"] = next(lines)["blas"]
    for shape, row in zip(plan.shapes, lines, strict=True):
        limit = limits.limit(shape, False, plan.dtype, best, bias=False)
        found["kernel_only"].append({**row, **_of_limit(limit, row["us"]["core"])})
        bar.update()
