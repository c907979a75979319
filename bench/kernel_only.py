"""The kernel alone: the core's forward product against NumPy's matmul, without TensorFlow.

The core takes the inputs where they lie; NumPy takes them already concatenated, so its BLAS has
nothing to do but one product. Both write memory that was there before. In a process of its own for
each number of threads (`processes`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import threadpoolctl

from bench import interleaved, processes
from bench.plan import Job
from bench.shapes import Shape
from shared_dense import _core

DTYPES = ("float32", "float64")  # those that NumPy multiplies with BLAS
# OpenBLAS's threads spin for about 0.1 s after a product and would slow what comes next.
SETTLE_STEP, SETTLE_STEPS = 0.01, 100  # seconds of a look, and how many at most


def aligned(values: np.ndarray) -> np.ndarray:
    """A copy that starts at a multiple of 64 bytes, as TensorFlow's tensors do."""
    memory = np.empty(values.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def blas(threads: int) -> str:
    """Gives NumPy's BLAS so many threads and tells its name, with the kernel it chose.

    Raises:
        RuntimeError: it does not take them.
    """
    threadpoolctl.threadpool_limits(threads, user_api="blas")
    for library in threadpoolctl.threadpool_info():
        if library["user_api"] == "blas" and library["num_threads"] == threads:
            kernel = library.get("architecture", "an unknown")
            return f"{library['internal_api']} {library['version']}, {kernel} kernel"
    raise RuntimeError(f"NumPy has no BLAS that takes {threads} threads")


def _settle() -> None:
    """Waits until no thread of this process is at work."""
    for _ in range(SETTLE_STEPS):
        busy = time.process_time()
        time.sleep(SETTLE_STEP)
        if time.process_time() - busy < SETTLE_STEP / 5:
            return


def time_shape(shape: Shape, dtype: str, threads: int, rounds: int, budget: float) -> dict:
    """Seconds of both in every round, and how far the results differ.

    A product of 1 x 1 takes as long as it takes to call np.matmul from Python; that is taken off.
    """
    rng = np.random.default_rng(0)
    stacked = aligned(rng.standard_normal((sum(shape.rows), shape.in_features)).astype(dtype))
    kernel = aligned(rng.standard_normal((shape.in_features, shape.units)).astype(dtype))
    ends = np.cumsum(shape.rows)[:-1]
    xs = [aligned(x) for x in np.split(stacked, ends)]
    want = aligned(np.zeros((len(stacked), shape.units), dtype))
    got = [aligned(np.zeros_like(y)) for y in np.split(want, ends)]
    one, made = np.ones((1, 1), dtype), np.ones((1, 1), dtype)
    multiply = interleaved.calls(lambda: np.matmul(stacked, kernel, out=want))

    def run_numpy(calls: int) -> float:
        multiply(1)  # wakes the threads, fetches the operands
        seconds = multiply(calls)
        if threads > 1:
            _settle()
        return seconds

    runs = {
        "core": lambda calls: _core.time_forward(xs, kernel, got, calls, threads),
        "numpy": run_numpy,
    }
    empty = {"numpy": interleaved.calls(lambda: np.matmul(one, one, out=made))}
    seconds = interleaved.measure(runs, rounds, budget, empty)
    return {
        "seconds": seconds,
        "skipped": {},
        "difference": float(np.abs(np.concatenate(got) - want).max() / np.abs(want).max()),
    }


def rows(jobs: Sequence[Job], threads: int, rounds: int, budget: float) -> Iterator[dict]:
    """The BLAS, then a row of each job."""
    yield {"blas": blas(threads)}
    for job in jobs:
        given = (job.of.shape, job.dtype, threads, rounds, budget)
        yield processes.tried(job.name, time_shape, *given)
