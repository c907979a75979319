"""What becomes of the seconds of every round of every run.

What one process measures another may not find again, however alike its own rounds are. So what is
measured is measured in several runs, a process each, and the spread that is told is the one between
them.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

Seconds = dict[str, list[float]]  # of every contestant in every round of a run


def spread(runs: Sequence[Sequence[float]], scale: float = 1.0) -> dict[str, float]:
    """Median, least and greatest of the runs' medians, times `scale`; of a single run, the median
    and the quartiles of its rounds.
    """
    if len(runs) == 1:
        low, median, high = np.percentile(runs[0], [25, 50, 75])
    else:
        medians = [statistics.median(rounds) for rounds in runs]
        low, median, high = min(medians), statistics.median(medians), max(medians)
    return {"median": scale * float(median), "low": scale * float(low), "high": scale * float(high)}


def times(runs: Sequence[Seconds], of: str = "op") -> dict[str, dict]:
    """Microseconds of all that every run timed, and how many times the time of `of` all others
    took, round by round, as the rows of the results have it.
    """

    def ratios(name: str) -> dict[str, float]:
        return spread([[b / a for a, b in zip(s[of], s[name], strict=True)] for s in runs])

    names = [name for name in runs[0] if all(name in seconds for seconds in runs)]
    return {
        "us": {name: spread([seconds[name] for seconds in runs], 1e6) for name in names},
        "ratio": {name: ratios(name) for name in names if name != of},
    }
