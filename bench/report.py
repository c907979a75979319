# ruff: noqa: RUF001
"""What came out: tables to read, in the terminal and in pages, and a JSON to keep."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.markdown import Markdown

from bench import doubts, tables
from bench.tables import LABELS, Columns, us

USE: Columns = {"use": lambda row: row["use"], "shape": tables.shape}


def to_json(found: dict) -> str:
    """The results with a line for each row: differences between two files can be read."""

    def value(part: object) -> str:
        if isinstance(part, list) and part:
            return "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in part) + "\n ]"
        return json.dumps(part)

    return "{\n" + ",\n".join(f' "{key}": {value(part)}' for key, part in found.items()) + "\n}\n"


def titled(rows: Sequence[dict], each_pass: bool = True) -> Iterator[tuple[str, list[dict]]]:
    """Rows of one setting (and, unless told otherwise, pass) under its title; few threads first."""
    found: dict[str, list[dict]] = {}
    for row in sorted(rows, key=lambda row: row["threads"]):
        words = [row["pass"]] if each_pass and "pass" in row else []
        words += [row["dtype"], tables.threads(row["threads"])]
        words += ["compiled by XLA"] * row["jit"] + ["cold weights"] * (row["kernels"] > 1)
        found.setdefault(", ".join(words), []).append(row)
    yield from found.items()


def versus(names: Sequence[str], of: Callable[[dict], dict] = lambda row: row["ratio"]) -> Columns:
    """Columns of ratios over these contestants."""
    return {f"vs {LABELS.get(n, n)}": lambda row, n=n: of(row).get(n) for n in names}


def _names(rows: Sequence[dict], field: str) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row[field]))


def _timings(rows: Sequence[dict], timed: str = "op") -> str:
    """Of one setting, whose times are of the contestant `timed`."""
    columns: Columns = {"µs": lambda row: us(row["us"][timed])}
    columns["of the limit"] = lambda row: f"{row['of_limit']:.0%} ({row['limit_by']})"
    columns |= versus(_names(rows, "ratio"))
    if "error" in rows[0]:
        columns["error"] = lambda row: f"{row['error']['op']:.0e} ({row['error']['plain']:.0e})"
    else:
        columns["differ by"] = lambda row: f"{row['difference']:.0e}"
    return tables.of_rows(rows, USE, columns) + "".join(f"\n{note}\n" for note in _notes(rows))


def _notes(rows: Sequence[dict]) -> Iterator[str]:
    """Which figures of a table nobody should believe, and why NumPy takes no part."""

    def shapes(wanted: Callable[[dict], object]) -> str:
        return "; ".join(tables.shape(row) for row in rows if wanted(row))

    if disturbed := shapes(doubts.disturbed):
        yield (
            "Disturbed, as plain reuse and Keras run the same and differ by more than their "
            f"spreads: {disturbed}."
        )
    if doubtful := shapes(doubts.too_fast):
        yield f"Faster than the limit allows, so do not believe: {doubtful}."
    for reason in sorted({row["skipped"].get("numpy", "") for row in rows} - {""}):
        left_out = shapes(lambda row, reason=reason: row["skipped"].get("numpy") == reason)
        yield f"NumPy is left out ({left_out}): {reason}."


def _eager(rows: Sequence[dict]) -> str:
    """Of layers, which are what users call: SharedDense against a Dense per input."""
    columns: Columns = {
        "SharedDense, µs": lambda row: us(row["us"].get("layer")),
        "vs a Dense per input": lambda row: tables.over(*map(row["us"].get, ("layer", "keras"))),
        "error": lambda row: f"{row['error']['layer']:.0e} ({row['error']['keras']:.0e})",
    }
    return tables.of_rows(rows, USE, columns)


def _peers(rows: Sequence[dict], eager: Sequence[dict]) -> str:
    """Times over the op's called from Python too, in another process: no ratio of rounds."""
    ours = {(row["shape"], row["pass"], row["dtype"]): row["us"].get("op") for row in eager}
    errors: dict[str, float] = {}
    lines: dict[tuple, dict] = {}
    for row in rows:
        which = (row["shape"], row["pass"], row["dtype"])
        line = lines.setdefault(which, {**row, "op": ours.get(which), "ratio": {}})
        ratio = tables.over(line["op"], row["us"])
        line["ratio"][row["peer"]] = ratio or f"{us(row['us'])} µs"
        said = f"{row['peer']} {row['version']}, error at most"
        errors[said] = max(row["error"], errors.get(said, 0.0))
    columns: Columns = {"op, µs": lambda row: us(row["op"])}
    columns |= versus(_names([*lines.values()], "ratio"))
    notes = "; ".join(f"{said} {error:.0e}" for said, error in errors.items())
    return f"{tables.of_rows([*lines.values()], USE, columns)}\n{notes}.\n"


def _memory(rows: Sequence[dict]) -> str:
    columns: Columns = {
        LABELS.get(name, name): lambda row, n=name: f"{row['peak_bytes'][n] / 1e6:.0f} MB"
        for name in rows[0]["peak_bytes"]
    }
    columns["one dW"] = lambda row: f"{row['dkernel_bytes'] / 1e6:.0f} MB"
    return tables.of_rows(rows, {"shape": tables.shape}, columns)


def _models(rows: Sequence[dict]) -> str:
    """Of training steps and predictions; how far the first losses are from a Dense's."""
    names: Columns = {
        "model": lambda row: row["model"],
        "inputs, widths": lambda row: row["shape"].replace("->", " → ").replace("x", " × ", 1),
    }
    columns: Columns = {
        "SharedDense, µs": lambda row: us(row["us"]["shared"]),
        "vs a Dense per input": lambda row: row["ratio"].get("dense"),
        "vs concat": lambda row: row["ratio"].get("concat"),
    }
    most = max(row["loss_difference"]["shared"] for row in rows)
    table = tables.of_rows(rows, names, columns)
    return f"{table}\nLosses of the first steps differ from a Dense's by {most:.0e} at most.\n"


def _load(rows: Sequence[dict]) -> str:
    names: Columns = {
        "": lambda row: row["contestant"],
        " ": lambda row: "XLA" if row["jit"] else "graph",
    }

    def seconds(step: str) -> Callable[[dict], str]:
        return lambda row: (
            f"{row['seconds'][step]['median']:.2f} s" if step in row["seconds"] else "–"
        )

    return tables.of_rows(rows, names, {step: seconds(step) for step in _names(rows, "seconds")})


def machine(found: dict) -> str:
    """Where the figures are from, in a sentence."""
    m, made = found["machine"], found["commit"]
    revision = "no git checkout"
    if found.get("package"):
        revision = f"an unknown commit, the package in {found['package']}"
    elif made:
        revision = f"commit {made['hash'][:12]}{', with changes' * made['dirty']}"
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return (
        f"{m['cpu']}, {m['cores']} cores, {tables.threads(m['threads'])}, {m['isa']}; {versions}. "
        f"`{found['command']}`, {found['runs']} runs (processes) of {found['rounds']} rounds, "
        f"{revision}.\n"
    )


def _limits(found: dict) -> str:
    def rates(level: dict) -> str:
        return "/".join(f"{level[way] / 1e9:.0f}" for way in ("read", "write", "copy"))

    machines = found["limit"]["machines"]
    names: Columns = {"threads": lambda row: str(row["threads"])}
    columns: Columns = {
        f"{dtype}, GFLOP/s": lambda row, t=dtype: f"{row['fma'][t] / 1e9:.0f}"
        for dtype in machines[0]["fma"]
    }
    for k, level in enumerate(machines[0]["levels"]):
        columns[f"{level['name']}, GB/s"] = lambda row, k=k: rates(row["levels"][k])
    busy = (
        "\nSeveral threads reach hardly more than one: they share a core, or something else was "
        "running, and then no figure is to be believed.\n"
    )
    table = tables.of_rows(machines, names, columns)
    return (
        f"What the machine can do, {found['limit']['source']}: multiply-adds, and bytes "
        f"read/written/copied.\n\n{table}" + busy * doubts.busy(machines)
    )


def sections(found: dict) -> dict[str, str]:
    """Every table of what was measured, by its title; pages quote them by it."""
    made = {"limits": _limits(found)}
    for title, rows in titled(found["results"]):
        made[title] = _timings(rows)
    for title, rows in titled(found["eager"], each_pass=False):
        made[f"called from Python, {title}"] = _eager(rows)
    for title, rows in titled(found["peers"], each_pass=False):
        made[f"other libraries, {title}"] = _peers(rows, found["eager"])
    for title, rows in titled(doubts.believed(found["kernel_only"])):
        made[f"the core alone, {title}"] = _timings(rows, "core")
    for title, rows in titled(found["grid"]):
        made[f"map, {title}"] = _timings(rows)
    for name, table in (("models", _models), ("memory", _memory), ("load", _load)):
        if found[name]:
            made[name] = table(found[name])
    return made


def text(found: dict) -> str:
    """The tables, with what is needed to read them."""
    several = "from the least to the greatest process"
    spread = several if found["runs"] > 1 else "between the quartiles of the rounds"
    lines = [
        machine(found),
        f"Bias and relu; ± is half the distance {spread}. Ratios: times faster than plain reuse "
        "(TensorFlow's fused matmul per input), Keras (a Dense per input), concat and stack (with "
        "their copies), XLA (of plain reuse); bold where it is slower by more than the spread. "
        "Error: the op's largest against float64, relative to its tensor (plain reuse's). The "
        "limit: the least time of arithmetic (FMA) and of moving the operands of each product "
        "once, by the level that holds them. The core alone: its forward product, no bias or "
        f"activation, vs np.matmul ({found['blas']}) of all rows. Memory: of forward and backward, "
        "above the operands. Load: from the start of a process.\n",
    ]
    lines += [f"### {title}\n{table}" for title, table in sections(found).items()]
    lines += [f"- skipped: {name}: {reason}" for name, reason in found["skipped"].items()]
    lines += ["\nInterrupted: this is what was complete by then."] * found["interrupted"]
    return "\n".join(lines)


def show(text: str) -> None:
    """Prints Markdown: drawn in a terminal, else as it is."""
    console = Console()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(text)
