"""Goes through everything that is measured, part by part, and keeps what there is on Ctrl-C."""

from __future__ import annotations

import datetime
import itertools
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tqdm import tqdm

from bench import graph, kernel_only, limits, load, machine, memory, peers, processes, report
from bench.graph import Job
from bench.shapes import Workload, grid, parse

FORMAT = 2
PASSES = ("forward", "forward+backward")
PARTS = (*PASSES, "eager", "kernel only", "peers", "memory", "load", "models", "grid")
SECTIONS = ("results", "eager", "grid", "kernel_only", "peers", "memory", "load", "models")
# Where not everything is asked for: the group where calls from Python, cold weights and a single
# thread matter most.
MAIN_GROUP = "skinny"
LOAD_REPEATS = 5
MODEL_ROWS = 8  # of bench.models, which imports TensorFlow

Rows = Iterator[tuple[str, dict]]  # section and row


class NoOp(Exception):
    """There is no op to time; the message says why."""


class Plan(NamedTuple):
    """What to measure, and how thoroughly."""

    workloads: Sequence[Workload]
    parts: Sequence[str]  # of PARTS
    dtypes: Sequence[str]  # of limits.ITEM_BYTES
    jits: Sequence[bool]  # whether XLA compiles all contestants
    threads: int
    rounds: int
    budget: float  # seconds per contestant and round
    full: bool  # everything of every workload, dtype and number of threads
    all_inputs: bool  # memory for every number of inputs

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
    count: int
    rows: Rows


def jobs(plan: Plan, threads: int) -> list[Job]:
    """What TensorFlow computes on so many threads, but for the grid."""
    main = threads == plan.threads
    wanted = []
    for dtype, jit, name in itertools.product(plan.dtypes, plan.jits, PASSES):
        for workload in plan.workloads:
            skinny = workload.group == MAIN_GROUP
            few = skinny and name == PASSES[0]  # of which other numbers of threads are told
            if name not in plan.parts or not (main or few or plan.full):
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
            if plan.full or workload.group == MAIN_GROUP
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
            "commit": commit(),
            "command": shlex.join(["python", "-m", "bench", *arguments]),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "rounds": plan.rounds,
            "budget": plan.budget,
            "interrupted": False,
            "limit": described(measured),
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
                len(main),
                self._graph(main, self.plan.workloads, self.plan.threads, lines),
            ),
            *self._others(),
        ]
        try:
            with tqdm(total=sum(part.count for part in parts), leave=False, disable=None) as bar:
                for part in parts:
                    self._keep(part, bar)
        except KeyboardInterrupt:
            self.found["interrupted"] = True
        self.found["geometric_means"] = report.geometric_means(self.found["results"])
        return self.found

    def _keep(self, part: Part, bar: tqdm) -> None:
        bar.set_description(part.name)
        try:
            for section, row in part.rows:
                self.found[section].append(row)
                bar.set_description(f"{part.name}: {row.get('shape', row.get('contestant'))}")
                bar.update()
        except (RuntimeError, OSError, ValueError) as error:  # of another process: the rest is kept
            self.found["skipped"][part.name] = str(error)

    def _head(self, head: dict) -> None:
        for dtype, reason in head["no_op"].items():
            if reason:
                raise NoOp(f"There is no op to time in {dtype}: {reason}")
        self.found["versions"] = head["versions"]
        self.found["machine"]["isa"] = head["isa"]

    def _start(self, wanted: Sequence[Job], threads: int) -> Iterator[dict]:
        plan = self.plan
        return graph.start(wanted, plan.dtypes, threads, plan.rounds, plan.budget, self._last_cache)

    def _others(self) -> Iterator[Part]:
        """All parts but the first."""
        plan = self.plan
        for threads in plan.thread_counts:
            wanted = jobs(plan, threads)
            if threads != plan.threads and wanted:
                rows = self._graph(wanted, plan.workloads, threads)
                yield Part(f"in the graph, {threads} threads", len(wanted), rows)
        if "kernel only" in plan.parts:
            for dtype in plan.dtypes:
                if dtype not in kernel_only.DTYPES:
                    self.found["skipped"][f"kernel only, {dtype}"] = "NumPy has no BLAS for it"
                    continue
                for threads in plan.thread_counts:
                    rows = self._kernel_only(dtype, threads)
                    yield Part(f"kernel only, {threads} threads", len(plan.workloads), rows)
        if "peers" in plan.parts:
            count = len(plan.workloads) * len(plan.passes)
            for name, dtype in itertools.product(peers.LAYERS, plan.dtypes):
                yield Part(name, count, self._peer(name, dtype))
        if "memory" in plan.parts:
            inputs = memory.INPUTS if plan.full or plan.all_inputs else memory.INPUTS[-1:]
            made = memory.rows(inputs, plan.threads, plan.dtypes[0])
            yield Part("memory", len(inputs), (("memory", row) for row in made))
        if "load" in plan.parts:
            made = load.rows(plan.dtypes[0], LOAD_REPEATS if plan.full else 1)
            yield Part("load", len(load.CONTESTANTS) * len(load.WAYS), (("load", r) for r in made))
        if "models" in plan.parts:
            arguments = [plan.threads, plan.rounds, plan.budget]
            made = processes.lines("bench.models", arguments, graph.ENVIRONMENT)
            yield Part("models", MODEL_ROWS, (("models", row) for row in made))
        cells = grid_jobs(plan)
        if cells:
            yield Part("grid", len(cells), self._graph(cells, grid(), plan.threads))

    def _graph(
        self,
        wanted: Sequence[Job],
        workloads: Sequence[Workload],
        threads: int,
        lines: Iterator[dict] | None = None,
    ) -> Rows:
        """Rows of jobs on these workloads, of a process that is started unless one has been."""
        if lines is None:
            lines = self._start(wanted, threads)
            next(lines)
        by_name = {workload.shape.name: workload for workload in workloads}
        for job, line in zip(wanted, lines, strict=True):
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
        lines = kernel_only.measure(shapes, dtype, threads, plan.rounds, plan.budget)
        self.found["blas"] = next(lines)["blas"]
        for workload, line in zip(plan.workloads, lines, strict=True):
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
        lines = peers.measure(
            name, shapes, plan.passes, dtype, plan.threads, plan.rounds, plan.budget
        )
        head = next(lines)
        if "skipped" in head:
            self.found["skipped"][name] = head["skipped"]
            return
        pairs = itertools.product(plan.passes, plan.workloads)
        for (which, workload), line in zip(pairs, lines, strict=True):
            yield (
                "peers",
                {
                    **workload.described(),
                    "dtype": dtype,
                    "threads": plan.threads,
                    "jit": False,
                    "kernels": 1,
                    "peer": name,
                    "version": head["version"],
                    "pass": which,
                    **line,
                },
            )


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


def described(measured: machine.Measured) -> dict:
    """The machine's limits as the results keep them: rates per second, capacities in bytes."""
    return {
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


def commit() -> dict | None:
    """Of this checkout, and whether files that git knows differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(machine.ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return {"hash": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return None
