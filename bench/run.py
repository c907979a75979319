"""Goes through everything that is measured, part by part, and keeps what there is on Ctrl-C."""

from __future__ import annotations

import datetime
import importlib.util
import itertools
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress

from bench import (
    kernel_only,
    limits,
    load,
    machine,
    medians,
    memory,
    peers,
    plan,
    processes,
    shapes,
    tables,
)  # fmt: skip
from bench.interleaved import LATE
from bench.plan import Job, Plan

FORMAT = 3
SECTIONS = ("results", "eager", "grid", "kernel_only", "peers", "memory", "load", "models")
# What tells a row from the others of its section.
KEY = ("peer", "model", "contestant", "shape", "pass", "dtype", "threads", "jit", "cold")

# Section and row; where there are several runs, the row comes again, of all runs so far.
Rows = Iterator[tuple[str, dict]]


class NoOp(Exception):
    """There is no op to time; the message says why."""


class Part(NamedTuple):
    """Rows that are made one after the other, by a process or several."""

    name: str
    count: int  # of rows, each as often as there are runs
    rows: Rows


def key(row: dict) -> tuple:
    """What tells a row from the others of its section; of cold weights not their number, which
    follows the caches of the machine.
    """
    cold = {"cold": row.get("kernels", 1) > 1}
    return tuple((row | cold).get(field) for field in KEY)


def merged(runs: Sequence[dict], of: str = "op") -> dict:
    """What every run printed of one row, as the results have it."""
    seconds = [run["seconds"] for run in runs]
    row = {**runs[-1], **medians.times(seconds, of), "runs": len(runs)}
    del row["seconds"]
    late = {name for each in seconds for name in each} - row["us"].keys()
    if late:  # in one run or other
        row["skipped"] = row["skipped"] | dict.fromkeys(late, LATE)
    return row


class Run:
    """A plan on a machine, and what was found so far."""

    def __init__(self, wanted: Plan, measured: machine.Measured, arguments: Sequence[str]):
        self.plan = wanted
        self.measured = measured
        self.found: dict = {
            "format": FORMAT,
            "machine": {
                "cpu": machine.cpu_name(),
                "cores": len(machine.cpus()),
                "threads": wanted.threads,
                "isa": "",
                "caches": [cache._asdict() for cache in measured.caches],
            },
            "versions": {},
            "package": "",
            "commit": machine.commit(),
            "command": shlex.join(["python", "-m", "bench", *arguments]),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "runs": wanted.runs,
            "rounds": wanted.rounds,
            "budget": wanted.budget,
            "interrupted": False,
            "limit": machine.described(measured),
            "skipped": {},
            "blas": "",
            **{section: [] for section in SECTIONS},
        }

    def run(self) -> dict:
        """Everything that goes into the report; after Ctrl-C, what was complete by then.

        Raises:
            NoOp: the op does not run in a dtype of the plan.
        """
        parts = list(self._parts())
        bar = Progress(
            console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
        )
        try:
            with bar:
                task = bar.add_task("", total=sum(part.count for part in parts))
                for part in parts:
                    self._keep(part, lambda what: bar.update(task, advance=1, description=what))
        except KeyboardInterrupt:
            self.found["interrupted"] = True
        return self.found

    def _keep(self, part: Part, tell) -> None:
        places: dict[tuple, int] = {}
        try:
            for section, row in part.rows:
                rows = self.found[section]
                place = places.setdefault((section, *key(row)), len(rows))
                rows[place : place + 1] = [row]
                tell(f"{part.name}: {row.get('shape', row.get('contestant'))}")
        except (RuntimeError, OSError, ValueError) as error:  # of another process: the rest is kept
            self.found["skipped"][part.name] = str(error)

    def _parts(self) -> Iterator[Part]:
        """All parts, those in the graph first: they tell whether there is an op."""
        wanted, main, skipped = self.plan, self.plan.threads, self.found["skipped"]

        def timed(name: str, module: str, jobs: Sequence[Job], *more: object, **of: str) -> Part:
            threads = jobs[0].threads if jobs else main
            rows = self._timed(module, jobs, threads, *more, **of)
            return Part(name, wanted.runs * len(jobs), rows)

        for threads in wanted.thread_counts:
            jobs = plan.in_the_graph(wanted, threads)
            if jobs or threads == main:  # without jobs it still says what takes part
                name = f"in the graph, {tables.threads(threads)}"
                yield timed(name, "graph", jobs, wanted.dtypes)
        if "grid" in wanted.parts:
            jobs = plan.jobs("grid", shapes.grid(), wanted.dtypes[0], main, wanted.passes)
            yield timed("grid", "graph", jobs, wanted.dtypes)
        if "kernel only" in wanted.parts:
            for dtype, threads in itertools.product(wanted.dtypes, wanted.thread_counts):
                if dtype not in kernel_only.DTYPES:
                    skipped[f"kernel only, {dtype}"] = "NumPy has no BLAS for it"
                    continue
                jobs = plan.jobs("kernel_only", wanted.workloads, dtype, threads)
                name = f"kernel only, {tables.threads(threads)}"
                yield timed(name, "kernel_only", jobs, of="core")
        if "peers" in wanted.parts:
            for name, dtype in itertools.product(peers.LAYERS, wanted.dtypes):
                if importlib.util.find_spec(name) is None:
                    skipped[name] = "not installed"
                    continue
                jobs = plan.jobs("peers", wanted.workloads, dtype, main, wanted.passes)
                yield timed(name, "peers", jobs, name, of=name)
        if "memory" in wanted.parts:
            inputs = memory.INPUTS if wanted.full else memory.INPUTS[-1:]
            rows = memory.rows(inputs, main, wanted.dtypes[0])
            yield Part("memory", len(inputs), (("memory", row) for row in rows))
        if "load" in wanted.parts:
            rows = load.rows(wanted.dtypes[0], main, wanted.runs)
            yield Part("load", 2 * len(load.CONTESTANTS), (("load", row) for row in rows))
        if "models" in wanted.parts:
            jobs = plan.jobs("models", wanted.stacks, "float32", main, (False, True))
            yield timed("models", "models", jobs, of="shared")

    def _timed(
        self, module: str, jobs: Sequence[Job], threads: int, *more: object, of: str = "op"
    ) -> Rows:
        """Starts a process for every run and goes through its rows: what all runs so far say of
        each job, with the limit where there is one. A job that failed is skipped by name.
        """
        plan = self.plan
        said: list[list[dict]] = [[] for _ in jobs]
        for _ in range(plan.runs if jobs else 1):
            given = (jobs, threads, plan.rounds, plan.budget, *more)
            lines = processes.lines(f"bench.{module}.rows", *given, threads=threads)
            head = self._head(next(lines))
            for job, before, line in zip(jobs, said, lines, strict=True):
                if processes.FAILED in line:
                    self.found["skipped"][line[processes.FAILED]] = line["reason"]
                    continue
                before.append(line)
                row = {**job.described(), **head, **merged(before, of)}
                if job.section in ("results", "grid", "kernel_only"):
                    row |= bound(job, self.measured.machines[threads], row["us"][of]["median"])
                if job.section == "peers":  # which is alone
                    row |= {"peer": of, "us": row["us"][of]}
                    del row["ratio"]
                yield job.section, row

    def _head(self, head: dict) -> dict:
        """Keeps what a process says of all its rows; what is left belongs to each of them."""
        for dtype, reason in head.pop("no_op", {}).items():
            if reason:
                raise NoOp(f"There is no op to time in {dtype}: {reason}")
        if "isa" in head:
            self.found["machine"]["isa"] = head.pop("isa")
            if head["package"]:
                self.found["commit"] = None  # the checkout's says nothing of a package elsewhere
        for name in head.keys() & self.found.keys():
            self.found[name] = head.pop(name)
        return head


def bound(job: Job, best: limits.Machine, us: float) -> dict:
    """What the machine allows, as the rows of the results have it."""
    shape, dtype, bias = job.of.shape, job.dtype, job.section != "kernel_only"
    limit = limits.limit(shape, job.backward, dtype, best, bias=bias, cold=job.cold)
    moved = limits.traffic(shape, job.backward, limits.ITEM_BYTES[dtype], bias)
    return {
        "gflop": shape.flops(job.backward) / 1e9,
        "bytes": moved.read + moved.written,
        "limit_us": 1e6 * limit.seconds,
        "limit_by": limit.by,
        "of_limit": 1e6 * limit.seconds / us,
        "floor_us": 1e6 * limits.floor(shape, job.backward, dtype, best).seconds,
    }
