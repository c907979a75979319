"""Goes through everything that is measured, part by part, and keeps what there is on Ctrl-C."""

from __future__ import annotations

import datetime
import itertools
import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from bench import (
    graph,
    kernel_only,
    limits,
    load,
    machine,
    medians,
    memory,
    peers,
    processes,
    report,
)  # fmt: skip
from bench.graph import LATE, Job
from bench.progress import Bar
from bench.shapes import OWN, Stack, Workload, grid, parse

FORMAT = 3
PASSES = ("forward", "forward+backward")
PARTS = (*PASSES, "eager", "kernel only", "peers", "memory", "load", "models", "grid")
SECTIONS = ("results", "eager", "grid", "kernel_only", "peers", "memory", "load", "models")
# Where not everything is asked for: the group where calls from Python, cold weights and a single
# thread matter most. Shapes of the user's own are called from Python, too.
MAIN_GROUP = "skinny"
MODEL_PASSES = 2  # of bench.models, which imports TensorFlow

# What tells a row from the others of its section.
KEY = ("peer", "model", "contestant", "shape", "pass", "dtype", "threads", "jit", "cold")

# Section and row; where there are several runs, the row comes again, of all runs so far.
Rows = Iterator[tuple[str, dict]]
T = TypeVar("T")


class NoOp(Exception):
    """There is no op to time; the message says why."""


class Plan(NamedTuple):
    """What to measure, and how thoroughly."""

    workloads: Sequence[Workload]
    stacks: Sequence[Stack]  # the whole models
    parts: Sequence[str]  # of PARTS
    dtypes: Sequence[str]  # of limits.ITEM_BYTES
    jits: Sequence[bool]  # whether XLA compiles all contestants
    threads: int
    runs: int  # processes that measure the same
    rounds: int  # of each run
    budget: float  # seconds per contestant and round
    full: bool  # everything of every workload

    @property
    def thread_counts(self) -> list[int]:
        """Numbers of threads to measure the machine and the kernel alone at."""
        return sorted({1, self.threads})

    @property
    def passes(self) -> list[str]:
        """Those asked for; all where a part needs one and none is."""
        return [name for name in PASSES if name in self.parts] or list(PASSES)


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


def jobs(plan: Plan, threads: int) -> list[Job]:
    """What TensorFlow computes on so many threads, but for the grid."""
    main = threads == plan.threads
    wanted = []
    for dtype, jit, name in itertools.product(plan.dtypes, plan.jits, PASSES):
        first = dtype == plan.dtypes[0] and jit == plan.jits[0]
        for workload in plan.workloads:
            skinny = workload.group == MAIN_GROUP
            # Of which other numbers of threads are told.
            chosen = first and (plan.full or (skinny and name == PASSES[0]))
            if name not in plan.parts or not (main or chosen):
                continue
            job = Job("results", workload.shape.name, name != PASSES[0], dtype, jit, False)
            wanted.append(job)
            if skinny and not job.backward and not jit:  # serving: nothing else finds them cold
                wanted.append(job._replace(cold=True))
    if "eager" in plan.parts and main:
        wanted += [
            Job("eager", workload.shape.name, name != PASSES[0], dtype, False, False)
            for dtype, name in itertools.product(plan.dtypes, plan.passes)
            for workload in plan.workloads
            if plan.full or workload.group in (MAIN_GROUP, OWN)
        ]
    return wanted


def grid_jobs(plan: Plan) -> list[Job]:
    """The cells of the map, in the first dtype, not compiled."""
    if "grid" not in plan.parts:
        return []
    return [
        Job("grid", workload.shape.name, name != PASSES[0], plan.dtypes[0], False, False)
        for name in plan.passes
        for workload in grid()
    ]


class Run:
    """A plan on a machine, and what was found so far."""

    def __init__(self, plan: Plan, measured: machine.Measured, arguments: Sequence[str]):
        self.plan = plan
        self.measured = measured
        last = measured.caches[-1]
        self._last_cache = last.size * last.count
        self.found: dict = {
            "format": FORMAT,
            "machine": {
                "cpu": machine.cpu_name(),
                "cores": len(machine.cpus()),
                "threads": plan.threads,
                "isa": "",
                "caches": [cache._asdict() for cache in measured.caches],
            },
            "versions": {},
            "package": "",
            "commit": machine.commit(),
            "command": shlex.join(["python", "-m", "bench", *arguments]),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "runs": plan.runs,
            "rounds": plan.rounds,
            "budget": plan.budget,
            "interrupted": False,
            "limit": machine.described(measured),
            "skipped": {},
            "results": [],
            "geometric_means": [],
            "eager": [],
            "grid": [],
            "blas": "",
            "kernel_only": [],
            "peers": [],
            "memory": [],
            "load": [],
            "models": [],
        }

    def run(self) -> dict:
        """Everything that goes into the report; after Ctrl-C, what was complete by then.

        Raises:
            NoOp: the op does not run in a dtype of the plan.
            RuntimeError: TensorFlow's process does not start.
            KeyboardInterrupt: it came before anything was timed.
        """
        main = jobs(self.plan, self.plan.threads)
        lines = self._start(main, self.plan.threads)
        self._head(next(lines))
        parts = [
            Part(
                "in the graph",
                len(main) * self.plan.runs,
                self._graph(main, self.plan.workloads, self.plan.threads, lines),
            ),
            *self._others(),
        ]
        try:
            with Bar(total=sum(part.count for part in parts), leave=False, disable=None) as bar:
                for part in parts:
                    self._keep(part, bar)
        except KeyboardInterrupt:
            self.found["interrupted"] = True
        self.found["geometric_means"] = report.geometric_means(self.found["results"])
        return self.found

    def _keep(self, part: Part, bar: Bar) -> None:
        bar.set_description(part.name)
        try:
            places: dict[tuple, int] = {}
            for section, row in part.rows:
                rows = self.found[section]
                place = places.setdefault((section, *key(row)), len(rows))
                rows[place : place + 1] = [row]
                bar.set_description(f"{part.name}: {row.get('shape', row.get('contestant'))}")
                bar.update()
        except (RuntimeError, OSError, ValueError) as error:  # of another process: the rest is kept
            self.found["skipped"][part.name] = str(error)

    def _head(self, head: dict) -> None:
        for dtype, reason in head["no_op"].items():
            if reason:
                raise NoOp(f"There is no op to time in {dtype}: {reason}")
        self.found["versions"] = head["versions"]
        self.found["package"] = head["package"]
        if head["package"]:
            self.found["commit"] = None  # the checkout's says nothing of a package elsewhere
        self.found["machine"]["isa"] = head["isa"]

    def _start(self, wanted: Sequence[Job], threads: int) -> Iterator[dict]:
        plan = self.plan
        return graph.start(wanted, plan.dtypes, threads, plan.rounds, plan.budget, self._last_cache)

    def _others(self) -> Iterator[Part]:
        """All parts but the first."""
        plan, runs = self.plan, self.plan.runs
        for threads in plan.thread_counts:
            wanted = jobs(plan, threads)
            if threads != plan.threads and wanted:
                rows = self._graph(wanted, plan.workloads, threads)
                yield Part(f"in the graph, {threads} threads", runs * len(wanted), rows)
        if "kernel only" in plan.parts:
            for dtype in plan.dtypes:
                if dtype not in kernel_only.DTYPES:
                    self.found["skipped"][f"kernel only, {dtype}"] = "NumPy has no BLAS for it"
                    continue
                for threads in plan.thread_counts:
                    rows = self._kernel_only(dtype, threads)
                    count = runs * len(plan.workloads)
                    yield Part(f"kernel only, {threads} threads", count, rows)
        if "peers" in plan.parts:
            count = runs * len(plan.workloads) * len(plan.passes)
            for name, dtype in itertools.product(peers.LAYERS, plan.dtypes):
                yield Part(name, count, self._peer(name, dtype))
        if "memory" in plan.parts:
            inputs = memory.INPUTS if plan.full else memory.INPUTS[-1:]
            made = memory.rows(inputs, plan.threads, plan.dtypes[0])
            yield Part("memory", len(inputs), (("memory", row) for row in made))
        if "load" in plan.parts:
            made = load.rows(plan.dtypes[0], runs)
            yield Part("load", len(load.CONTESTANTS) * len(load.WAYS), (("load", r) for r in made))
        if "models" in plan.parts:
            yield Part("models", runs * MODEL_PASSES * len(plan.stacks), self._models())
        cells = grid_jobs(plan)
        if cells:
            yield Part("grid", runs * len(cells), self._graph(cells, grid(), plan.threads))

    def _runs(
        self, start: Callable[[], Iterator[dict]], rows: Sequence[T], of: str = "op"
    ) -> Iterator[tuple[T, dict]]:
        """Starts a process for every run and goes through its rows: what each is of, and what all
        runs so far say of it. One that failed is skipped by name.
        """
        said: list[list[dict]] = [[] for _ in rows]
        for _ in range(self.plan.runs):
            for what, before, line in zip(rows, said, start(), strict=True):
                if processes.FAILED in line:
                    self.found["skipped"][line[processes.FAILED]] = line["reason"]
                    continue
                before.append(line)
                yield what, merged(before, of)

    def _graph(
        self,
        wanted: Sequence[Job],
        workloads: Sequence[Workload],
        threads: int,
        first: Iterator[dict] | None = None,
    ) -> Rows:
        """Rows of jobs on these workloads; the first process is started unless it has been."""

        def start() -> Iterator[dict]:
            nonlocal first
            lines, first = first, None
            if lines is None:
                lines = self._start(wanted, threads)
                next(lines)
            return lines

        by_name = {workload.shape.name: workload for workload in workloads}
        for job, line in self._runs(start, wanted):
            row = {
                **by_name[job.shape].described(),
                "dtype": job.dtype,
                "threads": threads,
                "jit": job.jit,
                "pass": PASSES[job.backward],
                **line,
            }
            if job.section != "eager":
                best = self.measured.machines[threads]
                row |= bound(job, best, line["us"]["op"]["median"])
            yield job.section, row

    def _kernel_only(self, dtype: str, threads: int) -> Rows:
        plan, best = self.plan, self.measured.machines[threads]
        shapes = [workload.shape for workload in plan.workloads]

        def start() -> Iterator[dict]:
            lines = kernel_only.measure(shapes, dtype, threads, plan.rounds, plan.budget)
            self.found["blas"] = next(lines)["blas"]
            return lines

        for workload, line in self._runs(start, plan.workloads, of="core"):
            job = Job("kernel_only", workload.shape.name, False, dtype, False, False)
            yield (
                "kernel_only",
                {
                    **workload.described(),
                    "dtype": dtype,
                    "threads": threads,
                    "jit": False,
                    "kernels": 1,
                    **line,
                    **bound(job, best, line["us"]["core"]["median"], bias=False),
                },
            )

    def _peer(self, name: str, dtype: str) -> Rows:
        plan = self.plan
        shapes = [workload.shape for workload in plan.workloads]
        if peers.missing(name):
            self.found["skipped"][name] = "not installed"
            return
        version = ""

        def start() -> Iterator[dict]:
            nonlocal version
            lines = peers.measure(
                name, shapes, plan.passes, dtype, plan.threads, plan.rounds, plan.budget
            )
            version = next(lines)["version"]
            return lines

        pairs = list(itertools.product(plan.passes, plan.workloads))
        for (which, workload), line in self._runs(start, pairs, of=name):
            alone = {"us": line["us"][name], "error": line["error"], "runs": line["runs"]}
            yield (
                "peers",
                {
                    **workload.described(),
                    "dtype": dtype,
                    "threads": plan.threads,
                    "jit": False,
                    "kernels": 1,
                    "peer": name,
                    "version": version,
                    "pass": which,
                    **alone,
                },
            )

    def _models(self) -> Rows:
        plan = self.plan

        def start() -> Iterator[dict]:
            arguments = [plan.threads, plan.rounds, plan.budget, json.dumps(plan.stacks)]
            return processes.lines("bench.models", arguments, graph.ENVIRONMENT)

        setting = {"dtype": "float32", "threads": plan.threads, "jit": False, "kernels": 1}
        rows = range(MODEL_PASSES * len(plan.stacks))
        for _, line in self._runs(start, rows, of="shared"):
            yield "models", {**line, **setting}


def bound(job: Job, best: limits.Machine, us: float, bias: bool = True) -> dict:
    """What the machine allows, as the rows of the results have it."""
    shape, dtype = parse(job.shape), job.dtype
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
