"""What is to be measured: the parts of the benchmark, and the rows that are wanted of each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from bench.shapes import OWN, Stack, Workload

PASSES = ("forward", "forward+backward")
MODEL_PASSES = ("inference", "training step")
PARTS = {
    PASSES[0]: "in the graph",
    PASSES[1]: "in the graph, with gradients",
    "eager": "calls from Python",
    "kernel only": "the core against NumPy",
    "peers": "other libraries",
    "memory": "the memory needed",
    "load": "imports, loading, tracing and compiling",
    "models": "whole models, with SharedDense and without",
    "grid": "the op over plain reuse, number of inputs x rows of each",
}
WITHOUT_PASS = ("kernel_only", "memory")  # sections whose rows have only one
OF_NO_SHAPE = ("memory", "load", "models", "grid")
# Where not everything is asked for: the group where calls from Python, cold weights and a single
# thread matter most. Shapes of the user's own are called from Python and on one thread, too.
MAIN_GROUP = "skinny"


class Job(NamedTuple):
    """A row that is wanted."""

    section: str  # of the results
    of: Workload | Stack
    dtype: str
    threads: int
    backward: bool = False  # of a stack: a training step
    jit: bool = False  # all compiled by XLA
    cold: bool = False  # whether every call takes another kernel

    @property
    def pass_name(self) -> str:
        """Of PASSES or MODEL_PASSES."""
        return (MODEL_PASSES if isinstance(self.of, Stack) else PASSES)[self.backward]

    @property
    def name(self) -> str:
        """In words."""
        words = [self.section, self.pass_name, self.dtype, self.of.described()["shape"]]
        return " ".join(words + ["jit"] * self.jit + ["cold"] * self.cold)

    def described(self) -> dict:
        """As the rows of the results have it."""
        setting = {"dtype": self.dtype, "threads": self.threads, "jit": self.jit, "kernels": 1}
        with_pass = {} if self.section in WITHOUT_PASS else {"pass": self.pass_name}
        return {**self.of.described(), **setting, **with_pass}


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
        """Numbers of threads to measure the machine, the graph and the kernel alone at."""
        return sorted({1, self.threads})

    @property
    def passes(self) -> list[bool]:
        """Whether with gradients: those asked for; all where a part needs one and none is."""
        return [b for b in (False, True) if PASSES[b] in self.parts] or [False, True]


def in_the_graph(plan: Plan, threads: int) -> list[Job]:
    """What TensorFlow computes on so many threads, but for the grid."""
    main = threads == plan.threads
    wanted = []
    for dtype, jit, backward in product(plan.dtypes, plan.jits, (False, True)):
        first = dtype == plan.dtypes[0] and jit == plan.jits[0]
        for workload in plan.workloads:
            skinny, own = workload.group == MAIN_GROUP, workload.group == OWN
            # Of which other numbers of threads are told.
            chosen = first and (plan.full or own or (skinny and not backward))
            if PASSES[backward] not in plan.parts or not (main or chosen):
                continue
            job = Job("results", workload, dtype, threads, backward, jit)
            wanted.append(job)
            if skinny and not backward and not jit:  # serving: nothing else finds them cold
                wanted.append(job._replace(cold=True))
    if "eager" in plan.parts and main:
        of = [w for w in plan.workloads if plan.full or w.group in (MAIN_GROUP, OWN)]
        for dtype in plan.dtypes:
            wanted += jobs("eager", of, dtype, threads, plan.passes)
    return wanted


def jobs(
    section: str,
    of: Sequence[Workload | Stack],
    dtype: str,
    threads: int,
    passes: Sequence[bool] = (False,),
) -> list[Job]:
    """Of all these workloads or stacks, neither compiled nor cold."""
    return [Job(section, each, dtype, threads, b) for b, each in product(passes, of)]
