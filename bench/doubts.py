"""Which figures nobody should believe, from the figures themselves."""

from __future__ import annotations

from collections.abc import Sequence

SLOWER_THREADS = 2  # times the time of one thread: other threads were in the way, or held up


def believed(rows: Sequence[dict]) -> list[dict]:
    """Rows of the kernel alone without NumPy where nobody can believe its time.

    Where NumPy's threads together take SLOWER_THREADS times as long as one of them, they waited for
    each other or for another program, and a ratio over that tells of the machine.
    """
    reason = f"more than {SLOWER_THREADS} times as long on all threads as on one, so it waited"
    alone = {
        (row["shape"], row["dtype"]): row["us"].get("numpy") for row in rows if row["threads"] == 1
    }
    found = []
    for row in rows:
        one, own = alone.get((row["shape"], row["dtype"])), row["us"].get("numpy")
        if one and own and own["median"] > SLOWER_THREADS * one["median"]:
            row = {**row, "skipped": row["skipped"] | {"numpy": reason}}
            row["ratio"] = {k: v for k, v in row["ratio"].items() if k != "numpy"}
        found.append(row)
    return found


def busy(machines: Sequence[dict]) -> bool:
    """Whether more threads than one had no more than one's arithmetic, by a third."""
    one = [m["fma"]["float32"] for m in machines if m["threads"] == 1]
    more = [m["fma"]["float32"] for m in machines if m["threads"] > 1]
    return bool(one and more) and max(more) < 1.33 * one[0]


def disturbed(row: dict) -> bool:
    """Whether plain reuse and Keras, which run the same products, differ by more than their spreads
    and by a tenth: something else ran meanwhile, and the ratios of that row say little.
    """
    plain, keras = row["us"].get("plain"), row["us"].get("keras")
    if not plain or not keras or row["jit"]:
        return False
    low, high = sorted((plain, keras), key=lambda us: us["median"])
    return high["low"] > low["high"] and high["median"] > 1.1 * low["median"]


def too_fast(row: dict) -> list[str]:
    """Whose figures are under the least time: the loop's body was not run, or the limit was
    disturbed.

    Under the time with every tensor in the fastest level, that is: tensors a little larger than a
    level may rightly beat the limit of the next. Of half types only the op is judged: the others
    may have instructions of those types, and the limit is that of float32.
    """
    return [
        name
        for name, us in row["us"].items()
        if 1.1 * us["median"] < row["floor_us"]
        and (name == "op" or row["dtype"] in ("float32", "float64"))
    ]
