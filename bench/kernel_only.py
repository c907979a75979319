"""The kernel alone: the core's forward product against NumPy's matmul, without TensorFlow.

The core takes the inputs where they lie; NumPy takes them already concatenated, so its BLAS has
nothing to do but one product. Both write memory that was there before. In a process of its own for
each number of threads, because OpenBLAS reads its number once (`processes`).
"""

from __future__ import annotations

import importlib.util
import sysconfig
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from bench import interleaved, processes
from bench.plan import Job
from bench.shapes import Shape

DTYPES = ("float32", "float64")  # those that NumPy multiplies with BLAS
# OpenBLAS's threads spin for about 0.1 s after a product and would slow what comes next.
SETTLE_STEP, SETTLE_STEPS = 0.01, 100  # seconds of a look, and how many at most


def load_core() -> ModuleType:
    """shared_dense._core from its file: importing the package would import TensorFlow."""
    package = importlib.util.find_spec("shared_dense")
    assert package is not None and package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0])
    path = folder / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    spec = importlib.util.spec_from_file_location("_core", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def aligned(values: np.ndarray) -> np.ndarray:
    """A copy that starts at a multiple of 64 bytes, as TensorFlow's tensors do."""
    memory = np.empty(values.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def blas_name() -> str:
    """The library behind np.matmul and the kernel it chose, as far as threadpoolctl tells."""
    try:
        import threadpoolctl
    except ImportError:
        built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return f"{built['name']} {built['version']} (threadpoolctl would name its kernel)"
    for library in threadpoolctl.threadpool_info():
        if library["user_api"] == "blas":
            kernel = library.get("architecture", "an unknown")
            return f"{library['internal_api']} {library['version']}, {kernel} kernel"
    return "no BLAS that threadpoolctl knows"


def busy_threads(size: int = 768, attempts: int = 3) -> float:
    """How many processors a large np.matmul keeps busy: at most the number of its threads."""
    a = np.ones((size, size), np.float32)
    out = np.empty_like(a)
    most = 0.0
    for _ in range(attempts):
        start, busy = time.perf_counter(), time.process_time()
        for _ in range(4):
            np.matmul(a, a, out=out)
        most = max(most, (time.process_time() - busy) / (time.perf_counter() - start))
    return most


def why_no_numpy(threads: int) -> str:
    """Why NumPy is no contestant on so many threads, "" if it is one.

    Other libraries than OpenBLAS read their number elsewhere, and an environment may hold it down.
    """
    found = busy_threads()
    if round(found) == threads:
        return ""
    return f"a large np.matmul keeps {found:.1f} processors busy, the core has {threads} threads"


def _numpy_seconds(x: np.ndarray, kernel: np.ndarray, y: np.ndarray, calls: int) -> float:
    np.matmul(x, kernel, out=y)  # wakes the threads, fetches the operands
    start = time.perf_counter()
    for _ in range(calls):
        np.matmul(x, kernel, out=y)
    return time.perf_counter() - start


def _settle() -> None:
    """Waits until no thread of this process is at work."""
    for _ in range(SETTLE_STEPS):
        busy = time.process_time()
        time.sleep(SETTLE_STEP)
        if time.process_time() - busy < SETTLE_STEP / 5:
            return


def time_shape(
    core: ModuleType,
    shape: Shape,
    dtype: str,
    threads: int,
    rounds: int,
    budget: float,
    no_numpy: str = "",
) -> dict:
    """Seconds of both in every round, and how far the results differ; of NumPy none where
    `no_numpy` says why.

    A product of 1 x 1 takes as long as it takes to call np.matmul from Python; that is taken off.
    """
    rng = np.random.default_rng(0)
    stacked = aligned(rng.standard_normal((sum(shape.rows), shape.in_features)).astype(dtype))
    kernel = aligned(rng.standard_normal((shape.in_features, shape.units)).astype(dtype))
    ends = np.cumsum(shape.rows)[:-1]
    xs = [aligned(x) for x in np.split(stacked, ends)]
    want = aligned(np.zeros((len(stacked), shape.units), dtype))
    got = [aligned(np.zeros_like(y)) for y in np.split(want, ends)]
    one = np.ones((1, 1), dtype)

    def run_core(calls: int) -> float:
        return core.time_forward(xs, kernel, got, calls, threads)

    def run_numpy(calls: int) -> float:
        seconds = _numpy_seconds(stacked, kernel, want, calls)
        if threads > 1:
            _settle()
        return seconds

    def run_nothing(calls: int) -> float:
        return _numpy_seconds(one, one, one.copy(), calls)

    runs: dict[str, interleaved.Run] = {"core": run_core, "numpy": run_numpy}
    if no_numpy:
        del runs["numpy"]
        np.matmul(stacked, kernel, out=want)
    seconds = interleaved.measure(runs, rounds, budget, {"numpy": run_nothing})
    return {
        "seconds": seconds,
        "skipped": {"numpy": no_numpy} if no_numpy else {},
        "difference": float(np.abs(np.concatenate(got) - want).max() / np.abs(want).max()),
    }


def rows(jobs: Sequence[Job], threads: int, rounds: int, budget: float) -> Iterator[dict]:
    """The BLAS, then a row of each job."""
    core = load_core()
    yield {"blas": blas_name()}
    no_numpy = why_no_numpy(threads)
    for job in jobs:
        given = (core, job.of.shape, job.dtype, threads, rounds, budget, no_numpy)
        yield processes.tried(job.name, time_shape, *given)
