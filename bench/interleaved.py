"""Rounds in which contestants take turns: what disturbs the machine disturbs all of them."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping

MOST_CALLS = 100_000
# One whose call takes so many seconds, and so many times the quickest one's, is left out: XLA
# multiplies bfloat16 without vectors on some processors, and would take hours.
LONGEST, HOPELESS = 0.5, 10
LEAST = 1e-9  # seconds
ATTEMPTS = 10
LATE = "a call took too long, or no longer than what surrounds it"

Run = Callable[[int], float]  # seconds of so many calls


def calls(call: Callable[[], object]) -> Run:
    """Times so many calls from Python."""

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            call()
        return time.perf_counter() - start

    return run


def calls_in(run: Run, budget: float) -> int:
    """How many calls take about `budget` seconds; 1 at least."""
    calls = 1
    while (seconds := run(calls)) < budget / 10 and calls < MOST_CALLS:
        calls *= 4
    return max(1, min(int(calls * budget / max(seconds, 1e-9)), MOST_CALLS))


def measure(
    runs: Mapping[str, Run], rounds: int, budget: float, empty: Mapping[str, Run] | None = None
) -> dict[str, list[float]]:
    """Seconds of one call of every contestant in every round of about `budget` seconds each.

    In every round they come in an order of chance. Where a contestant has an `empty` run, calls
    that do nothing but what surrounds its own, that is timed as often, and its median taken off: it
    costs much the same every time, and one that was held up would leave less than nothing.

    The first is always timed; of the others, those that are LONGEST and HOPELESS are left out. One
    for which nothing is left, because what surrounds it was held up, is timed again with all
    others, and left out if it is so in every one of ATTEMPTS.

    Raises:
        RuntimeError: nothing is left of the first, in several attempts.
    """
    once = {name: run(1) for name, run in runs.items()}
    longest = max(LONGEST, HOPELESS * min(once.values()))
    names = [name for k, name in enumerate(runs) if k == 0 or once[name] <= longest]
    counts = {name: calls_in(runs[name], budget) for name in names}
    found: dict[str, list[float]] = {}
    for _ in range(ATTEMPTS):
        timed = _rounds(runs, counts, rounds, empty or {})
        if names[0] in timed and len(timed) > len(found):
            found = timed
        if len(found) == len(names):
            break
    if not found:
        raise RuntimeError(f"{names[0]} took no longer than what surrounds it, {ATTEMPTS} times")
    return found


def _rounds(
    runs: Mapping[str, Run], counts: Mapping[str, int], rounds: int, empty: Mapping[str, Run]
) -> dict[str, list[float]]:
    """Seconds of one call, of those that mostly took longer than what surrounds them."""
    names = list(counts)
    whole: dict[str, list[float]] = {name: [] for name in names}
    without: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in random.sample(names, len(names)):
            whole[name].append(runs[name](counts[name]))
            without[name].append(empty[name](counts[name]) if name in empty else 0.0)
    found = {}
    for name in names:
        own = [seconds - statistics.median(without[name]) for seconds in whole[name]]
        if statistics.median(own) > 0:
            # A single round may still have been quicker: no time is 0, ratios divide by it.
            found[name] = [max(seconds, LEAST) / counts[name] for seconds in own]
    return found
