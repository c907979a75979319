"""What becomes of the seconds of every round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def spread(values: Sequence[float], scale: float = 1.0) -> dict[str, float]:
    """Median and quartiles, times `scale`."""
    q1, median, q3 = scale * np.percentile(values, [25, 50, 75])
    return {"median": float(median), "q1": float(q1), "q3": float(q3)}


def ratios(seconds: dict[str, list[float]], name: str, of: str = "op") -> dict[str, float]:
    """How many times the time of `of` the named one took, over the rounds."""
    return spread([b / a for a, b in zip(seconds[of], seconds[name], strict=True)])


def times(seconds: dict[str, list[float]], of: str = "op") -> dict[str, dict]:
    """Microseconds of all, and ratios of all others to `of`, as the rows of the results have it."""
    return {
        "us": {name: spread(values, 1e6) for name, values in seconds.items()},
        "ratio": {name: ratios(seconds, name, of) for name in seconds if name != of},
    }
