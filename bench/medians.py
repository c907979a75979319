"""What becomes of the seconds of every round."""

from __future__ import annotations

import statistics

import numpy as np


def ratios(seconds: dict[str, list[float]], name: str, of: str = "op") -> dict[str, float]:
    """How many times the time of `of` the named one took: median and quartiles over the rounds."""
    per_round = [b / a for a, b in zip(seconds[of], seconds[name], strict=True)]
    q1, median, q3 = np.percentile(per_round, [25, 50, 75])
    return {"median": float(median), "q1": float(q1), "q3": float(q3)}


def microseconds(seconds: list[float]) -> float:
    """The median, in microseconds."""
    return 1e6 * statistics.median(seconds)
