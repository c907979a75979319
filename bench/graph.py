"""Times what runs in TensorFlow, in a process of its own for each number of threads.

    python -m bench.graph THREADS ROUNDS BUDGET LAST_CACHE DTYPES JOBS

DTYPES is separated by commas, JOBS a JSON list of the fields of Job. Prints a line of JSON with the
versions and, for each dtype, why there is no op to time in it; then a row for each job.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench import machine, processes
from bench.shapes import Shape, parse

if TYPE_CHECKING:  # TensorFlow is imported where it is set up
    from bench.contestants import Layer

GRID_CONTESTANTS = ("op", "plain")
LATE = "a call took too long, or no longer than what surrounds it"
# NumPy computes what is compared with; its threads would spin on into the next timing.
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",  # this is a benchmark of the CPU
}


class Job(NamedTuple):
    """A row that is wanted."""

    section: str  # of the results: results, eager or grid
    shape: str
    backward: bool
    dtype: str
    jit: bool
    cold: bool  # whether every call takes another kernel

    @property
    def name(self) -> str:
        """In words."""
        words = [self.section, "backward" if self.backward else "forward", self.dtype, self.shape]
        return " ".join(words + ["jit"] * self.jit + ["cold"] * self.cold)


def start(
    jobs: Sequence[Job], dtypes: Sequence[str], threads: int, rounds: int, budget: float,
    last_cache: int,
) -> Iterator[dict]:  # fmt: skip
    """What the process of its own prints, parsed.

    Raises:
        RuntimeError: the process failed; the message is the last it said.
    """
    arguments = [threads, rounds, budget, last_cache, ",".join(dtypes), json.dumps(jobs)]
    return processes.lines("bench.graph", arguments, ENVIRONMENT)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Sends what is written to stderr to nowhere."""
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def described(dtypes: Sequence[str]) -> dict:
    """Versions of all that takes part; where the package is, "" in this checkout; for each dtype
    why the op does not run, "" if it does.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    import shared_dense as sd

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
    import shared_dense as sd
    from bench import contestants

    status = sd.status()
    if not status.available:
        return status.reason
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the fallback, which is told
        contestants.op(contestants.make_operands(Shape((1,), 1, 1), dtype))
    status = sd.status()
    return "" if status.last_path == "op" else status.last_reason


def row(job: Job, rounds: int, budget: float, last_cache: int) -> dict:
    """Seconds of all contestants in every round, and errors of a job."""
    from bench import contestants, eager, timing

    shape = parse(job.shape)
    operands = contestants.make_operands(shape, job.dtype)
    if job.section == "eager":
        layers = eager.layers(operands, job.backward)
    else:
        layers = contestants.contestants(job.backward, job.jit)
    skipped = contestants.skipped(shape)
    if job.section == "grid":
        layers = {name: layers[name] for name in GRID_CONTESTANTS}
        skipped = {}
    layers = {name: layer for name, layer in layers.items() if name not in skipped}
    kernels = timing.copies(operands.kernel, last_cache) if job.cold else []
    if job.section == "eager":
        seconds = eager.measure(layers, operands, rounds, budget)
        errors = {
            name: contestants.error(layer(operands), operands, job.backward)
            for name, layer in layers.items()
        }
    else:
        count = len(shape.rows)
        results = 2 * count + 2 if job.backward else count
        seconds = timing.measure(layers, operands, kernels, results, rounds, budget)
        errors = {
            name: contestants.error(traced(layers[name])(operands), operands, job.backward)
            for name in ("op", "plain")
        }
    skipped |= {name: LATE for name in layers if name not in seconds}
    return {
        "seconds": seconds,
        "kernels": max(len(kernels), 1),
        "skipped": skipped,
        "error": errors,
    }


def traced(layer: Layer) -> Layer:
    """The layer as a function of the graph, optimised as those that are timed."""
    import tensorflow as tf

    return tf.function(layer, autograph=False)


def main() -> int:
    """Goes through the jobs of the command line."""
    threads, rounds, last_cache = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[4])
    machine.confine(threads)
    budget, dtypes = float(sys.argv[3]), sys.argv[5].split(",")
    with quiet():  # a few lines that TensorFlow logs when imported heed no log level
        import tensorflow  # noqa: F401
    from bench import timing

    timing.prepare(threads)
    processes.say(described(dtypes))
    for fields in json.loads(sys.argv[6]):
        job = Job(*fields)
        processes.say_row(job.name, row, job, rounds, budget, last_cache)
    return 0


if __name__ == "__main__":
    processes.exit_quietly(main)
