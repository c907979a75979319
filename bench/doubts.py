"""Which figures nobody should believe, from the figures themselves."""

from __future__ import annotations

from collections.abc import Sequence

SLOWER_THREADS = 2  # times the time of one thread: other threads were in the way, or held up


def believed(rows: Sequence[dict]) -> tuple[list[dict], list[str]]:
    """Rows of the kernel alone without the ratios that nobody can believe, and their shapes.

    Where NumPy's threads together take SLOWER_THREADS times as long as one of them, they waited for
    each other or for another program, and a ratio over that tells of the machine.
    """

    def of(row: dict, threads: int) -> tuple:
        return (row["shape"], row["dtype"], row["kernels"], threads)

    alone = {of(row, row["threads"]): row["us"].get("numpy") for row in rows}
    found, shapes = [], []
    for row in rows:
        one, own = alone.get(of(row, 1)), row["us"].get("numpy")
        if one and own and own["median"] > SLOWER_THREADS * one["median"]:
            shapes.append(row["shape"])
            row = {**row, "ratio": {k: v for k, v in row["ratio"].items() if k != "numpy"}}
        found.append(row)
    return found, shapes


def busy(machines: Sequence[dict]) -> bool:
    """Whether more threads than one had no more than one's arithmetic, by a third."""
    one = [m["fma"]["float32"] for m in machines if m["threads"] == 1]
    more = [m["fma"]["float32"] for m in machines if m["threads"] > 1]
    return bool(one and more) and max(more) < 1.33 * one[0]


def disturbed_rows(rows: Sequence[dict]) -> list[str]:
    """Where plain reuse and Keras, which run the same products, differ by more than their spreads
    and by a tenth: something else ran meanwhile, and the ratios of that row say little.
    """
    found = []
    for row in rows:
        plain, keras = row["us"].get("plain"), row["us"].get("keras")
        if plain and keras and not row["jit"]:
            low, high = sorted((plain, keras), key=lambda us: us["median"])
            if high["low"] > low["high"] and high["median"] > 1.1 * low["median"]:
                found.append(_row_name(row))
    return found


def _row_name(row: dict) -> str:
    cold = " cold" if row["kernels"] > 1 else ""
    return f"{row['shape']} {row['pass']} {row['dtype']} {row['threads']}t{cold}"


def doubtful_rows(rows: Sequence[dict]) -> list[str]:
    """Figures under the least time: the loop's body was not run, or the limit was disturbed.

    Under the time with every tensor in the fastest level, that is: tensors a little larger than a
    level may rightly beat the limit of the next. Of half types only the op is judged: the others
    may have instructions of those types, and the limit is that of float32.
    """
    return [
        f"{_row_name(row)} {name}"
        for row in rows
        for name, us in row["us"].items()
        if 1.1 * us["median"] < row["floor_us"]
        and (name == "op" or row["dtype"] in ("float32", "float64"))
    ]
