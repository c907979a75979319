"""Times what runs in TensorFlow, in a process of its own (`processes`)."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import shared_dense as sd
from bench import contestants, interleaved, machine, processes, timing
from bench.plan import Job
from bench.shapes import Shape

GRID_CONTESTANTS = ("op", "plain")


def rows(
    jobs: Sequence[Job], threads: int, rounds: int, budget: float, dtypes: Sequence[str]
) -> Iterator[dict]:
    """What is told of all, then of each job."""
    timing.prepare(threads)
    yield described(dtypes)
    for job in jobs:
        yield processes.tried(job.name, row, job, rounds, budget)


def described(dtypes: Sequence[str]) -> dict:
    """Versions of all that takes part; where the package is, "" in this checkout; for each dtype
    why the op does not run, "" if it does.
    """
    status = sd.status()
    folder = Path(sd.__file__).resolve().parent
    return {
        "isa": status.isa,
        "package": "" if folder == processes.ROOT / "python" / "shared_dense" else str(folder),
        "versions": {
            "shared_dense": sd.__version__,
            "compiler": status.compiler,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "no_op": {dtype: _why_no_op(dtype) for dtype in dtypes},
    }


def _why_no_op(dtype: str) -> str:
    status = sd.status()
    if not status.available:
        return status.reason
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the fallback, which is told
        contestants.op(contestants.make_operands(Shape((1,), 1, 1), dtype))
    status = sd.status()
    return "" if status.last_path == "op" else status.last_reason


def row(job: Job, rounds: int, budget: float) -> dict:
    """Seconds of all contestants in every round, and errors of a job."""
    shape = job.of.shape
    operands = contestants.make_operands(shape, job.dtype)
    kernels: list[tf.Tensor] = []
    skipped: dict[str, str] = {}
    if job.section == "eager":
        layers = judged = contestants.from_python(operands, job.backward)
        runs = {name: interleaved.calls(partial(f, operands)) for name, f in layers.items()}
        seconds = interleaved.measure(runs, rounds, budget)
    else:
        layers = contestants.contestants(job.backward, job.jit)
        judged = {name: tf.function(layers[name], autograph=False) for name in GRID_CONTESTANTS}
        skipped = contestants.skipped(shape)
        names = GRID_CONTESTANTS if job.section == "grid" else layers.keys() - skipped.keys()
        layers = {name: layer for name, layer in layers.items() if name in names}
        if job.cold:
            last = machine.caches()[-1]
            kernels = timing.copies(operands.kernel, last.size * last.count)
        results = 2 * len(shape.rows) + 2 if job.backward else len(shape.rows)
        seconds = timing.measure(layers, operands, kernels, results, rounds, budget)
    return {
        "seconds": seconds,
        "kernels": max(len(kernels), 1),
        "skipped": skipped | {name: interleaved.LATE for name in layers if name not in seconds},
        "error": {
            name: contestants.error(layer(operands), operands, job.backward)
            for name, layer in judged.items()
        },
    }
