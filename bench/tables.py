# ruff: noqa: RUF001, RUF002
"""Tables in Markdown, for the terminal as for pages, and how figures are written in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import geometric_mean

Spread = dict[str, float]  # {median, low, high}
Cell = str | Spread | None  # a ratio, as a spread, is written here; None: does not take part
Columns = dict[str, Callable[[dict], Cell]]

LABELS = {"keras": "Keras", "xla": "XLA", "numpy": "NumPy"}  # where it is not the name itself
HARDLY = 0.995  # a ratio that is written as 1.00 is no loss


def spread_of(values: Spread) -> float:
    """Half the distance from low to high, as a part of the median."""
    return (values["high"] - values["low"]) / 2 / values["median"]


def over(a: Spread | None, b: Spread | None) -> Spread | None:
    """B's median over A's, the least and the most that the spreads of both allow."""
    if not a or not b:
        return None
    return {
        "median": b["median"] / a["median"],
        "low": b["low"] / a["high"],
        "high": b["high"] / a["low"],
    }


def mean(ratios: Sequence[Spread]) -> Spread:
    """The geometric mean of each of median, low and high."""
    return {name: geometric_mean(ratio[name] for ratio in ratios) for name in ratios[0]}


def is_lost(ratio: Spread) -> bool:
    """Whether the loss is larger than the spread: all of it is below 1."""
    return ratio["high"] < HARDLY


def times(ratio: Spread | None, spread: bool = False) -> str:
    """'1.83×', with its spread '1.83× ±4%'; bold where it is lost."""
    if ratio is None:
        return "–"
    value = ratio["median"]
    text = f"{value:.1f}×" if value >= 1.95 else f"{value:.2f}×"
    text = f"**{text}**" if is_lost(ratio) else text
    return f"{text} ±{spread_of(ratio):.0%}" if spread else text


def us(values: Spread | None) -> str:
    """Microseconds, with their spread."""
    if not values:
        return "–"
    digits = 0 if values["median"] >= 100 else 1
    return f"{values['median']:.{digits}f} ±{spread_of(values):.0%}"


def shape(row: dict) -> str:
    """'8 × 1, 1024 → 1024', or '5 × [4000 … 15], 256 → 3'."""
    rows = row["rows"]
    between = " … " if len(rows) > 2 else ", "
    each = str(rows[0]) if len({*rows}) == 1 else f"[{rows[0]}{between}{rows[-1]}]"
    return f"{row['inputs']} × {each}, {row['in_features']} → {row['units']}"


def threads(n: int) -> str:
    """'1 thread', '2 threads'."""
    return f"{n} thread{'s' * (n > 1)}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown, padded: it can be read as it is."""
    widths = [max(3, *map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |\n"
        for line in lines
    )


def of_rows(
    rows: Sequence[dict],
    names: Columns,
    columns: Columns,
    *,
    spread: bool = True,
    shown: Callable[[dict], bool] = lambda row: True,
) -> str:
    """A line for all rows of the same names, with the columns of each pass beside each other.

    Below several are the geometric means of ratios, and how many are slower (lost): of all rows.

    Args:
        rows: of the results.
        names: the columns that say what a line is of.
        columns: those with figures.
        spread: whether ratios come with theirs.
        shown: which rows have a line.
    """
    passes = list(dict.fromkeys(row.get("pass", "") for row in rows))
    heads = [*names]
    for name in passes:
        prefixes = [f"{name}: " if len(passes) > 1 else ""] + [""] * len(columns)
        heads += [prefix + head for prefix, head in zip(prefixes, columns, strict=False)]
    lines: dict[tuple, dict] = {}
    for row in rows:
        lines.setdefault(tuple(name(row) for name in names.values()), {})[row.get("pass", "")] = row

    def cells(chosen: Callable[[dict], bool]) -> list[list[Cell]]:
        return [
            [*name, *(f(line[p]) if p in line else None for p in passes for f in columns.values())]
            for name, line in lines.items()
            if any(map(chosen, line.values()))
        ]

    said = [
        [cell if isinstance(cell, str) else times(cell, spread) for cell in line]
        for line in cells(shown)
    ]
    by_column = list(zip(*cells(lambda row: True), strict=True))
    ratios = [[cell for cell in column if isinstance(cell, dict)] for column in by_column]
    if any(ratios) and len(lines) > 1:
        means = [times(mean(each)) if each else "" for each in ratios]
        said.append([f"geometric mean of {len(lines)}", *means[1:]])
        said.append(["slower (bold)", *map(_slower, ratios[1:])])
    return table(heads, said)


def _slower(ratios: Sequence[Spread]) -> str:
    slower = sum(ratio["median"] < HARDLY for ratio in ratios)
    return f"{slower} of {len(ratios)} ({sum(map(is_lost, ratios))})" if ratios else ""
