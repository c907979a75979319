"""A proxy for the FMA peak where there is no compiler: NumPy's best large matmul.

`python -m bench.numpy_peak REPEATS` prints JSON, dtype: FLOP/s, on OPENBLAS_NUM_THREADS threads.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

SIZE = 2048  # 17 GFLOP: long enough for every core to be busy, short enough to repeat


def peak(dtype: str, repeats: int) -> float:
    """FLOP/s of the best of so many products of two SIZE x SIZE matrices."""
    a = np.ones((SIZE, SIZE), dtype)
    out = np.empty_like(a)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        np.matmul(a, a, out=out)
        best = min(best, time.perf_counter() - start)
    return 2 * SIZE**3 / best


if __name__ == "__main__":
    print(json.dumps({dtype: peak(dtype, int(sys.argv[1])) for dtype in ("float32", "float64")}))
