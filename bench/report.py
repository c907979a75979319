"""What came out: tables to read and a JSON to keep."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from bench import doubts
from bench.medians import spread_of
from bench.shapes import GROUPS, OWN

LABELS = {
    "plain": "plain", "keras": "Keras", "concat": "concat", "stack": "stack", "xla": "XLA",
    "layer": "layer", "numpy": "NumPy",
}  # fmt: skip
PASSES = {"forward": "Forward", "forward+backward": "Forward and backward"}
SPREADS = {  # by whether there was one run
    False: "half the distance between the least and the greatest process",
    True: "half the distance between the quartiles of the rounds",
}
ALL = "all"  # the group of means over all groups


def to_json(found: dict) -> str:
    """The results with a line for each row: differences between two files can be read."""

    def value(part: object) -> str:
        if isinstance(part, list) and part:
            return "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in part) + "\n ]"
        return json.dumps(part)

    return "{\n" + ",\n".join(f' "{key}": {value(part)}' for key, part in found.items()) + "\n}\n"


def setting(row: dict) -> dict:
    """What rows of one table share."""
    return {
        "dtype": row["dtype"],
        "threads": row["threads"],
        "jit": row["jit"],
        "cold": row["kernels"] > 1,
        "pass": row.get("pass", "forward"),
    }


def _tables(rows: Sequence[dict]) -> Iterator[tuple[dict, list[dict]]]:
    """Settings in the order in which they came, and the rows of each."""
    seen: list[dict] = []
    for row in rows:
        if setting(row) not in seen:
            seen.append(setting(row))
    for each in seen:
        yield each, [row for row in rows if setting(row) == each]


def means(rows: Sequence[dict]) -> dict[str, float]:
    """Geometric means of the median ratios, by contestant, over the rows where it takes part."""
    names = dict.fromkeys(name for row in rows for name in row["ratio"])
    return {
        name: statistics.geometric_mean(
            row["ratio"][name]["median"] for row in rows if name in row["ratio"]
        )
        for name in names
    }


def geometric_means(rows: Sequence[dict]) -> list[dict]:
    """Of every setting: over all rows, and over those of each group."""
    found = []
    for each, table in _tables(rows):
        groups = dict.fromkeys(row["group"] for row in table)
        for group in (*groups, ALL):
            chosen = [row for row in table if group in (row["group"], ALL)]
            found.append({**each, "group": group, "ratio": means(chosen)})
    return found


def _ratio(value: float | None) -> str:
    """Nothing for one that does not take part."""
    return "- " if value is None else f"{value:.2f}{'!' if value < 1 else ' '}"


def _us(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _bytes(value: float) -> str:
    return f"{value / 1e6:.0f} MB"


Column = tuple[str, int, Callable[[dict], str]]  # head, width, cell


def _columns(rows: Sequence[dict], timed: str) -> list[Column]:
    """Of one table, whose times are of the contestant `timed`."""
    columns: list[Column] = [
        ("shape", -max(14, *(len(row["shape"]) for row in rows)), lambda row: row["shape"]),
        (f"{timed} us", 11, lambda row: _us(row["us"][timed]["median"])),
        ("+-", 5, lambda row: f"{spread_of(row['us'][timed]):.0%}"),
    ]
    if "limit_us" in rows[0]:
        columns += [
            ("limit us", 11, lambda row: _us(row["limit_us"])),
            ("of limit", 9, lambda row: f"{row['of_limit']:.0%}"),
            ("by", 5, lambda row: row["limit_by"]),
        ]
    if "error" in rows[0]:
        columns += [
            ("error", 9, lambda row: f"{row['error'][timed]:.1e}"),
            ("plain's", 9, lambda row: f"{row['error']['plain']:.1e}"),
        ]
    if "difference" in rows[0]:
        columns.append(("differ by", 10, lambda row: f"{row['difference']:.1e}"))

    def versus(name: str) -> Callable[[dict], str]:
        return lambda row: _ratio(row["ratio"].get(name, {}).get("median"))

    names = dict.fromkeys(name for row in rows for name in row["ratio"])
    columns += [(f"vs {LABELS[name]}", 11, versus(name)) for name in names]
    columns.append(("  use", -1, lambda row: f"  {row['use']}"))
    return columns


def _line(columns: Sequence[Column], cells: Sequence[str]) -> str:
    padded = (
        f"{cell:<{-width}}" if width < 0 else f"{cell:>{width}}"
        for (_, width, _), cell in zip(columns, cells, strict=True)
    )
    return "".join(padded).rstrip()


def _table(rows: Sequence[dict], timed: str = "op") -> list[str]:
    """The rows under the names of their groups, with means and what was lost."""
    columns = _columns(rows, timed)
    lines = [_line(columns, [head for head, _, _ in columns])]

    def mean(title: str, chosen: Sequence[dict]) -> str:
        ratios = means(chosen)
        cells = {f"vs {LABELS[name]}": _ratio(value) for name, value in ratios.items()}
        if "of_limit" in chosen[0]:
            of_limit = statistics.geometric_mean(row["of_limit"] for row in chosen)
            cells["of limit"] = f"{of_limit:.0%}"
        cells["shape"] = title
        return _line(columns, [cells.get(head, "") for head, _, _ in columns])

    groups = [(group, list(part)) for group, part in groupby(rows, lambda row: row["group"])]
    for group, part in groups:
        title = {**GROUPS, OWN: "yours"}.get(group, "")
        lines.append(f"-- {group}{': ' if title else ''}{title}")
        lines += [_line(columns, [cell(row) for _, _, cell in columns]) for row in part]
        if len(groups) > 1 and len(part) > 1:
            lines.append(mean("  mean", part))
    lines.append(mean("geometric mean", rows))
    names = dict.fromkeys(name for row in rows for name in row["ratio"])
    ratios = {
        name: [row["ratio"][name]["median"] for row in rows if name in row["ratio"]]
        for name in names
    }
    lost = ", ".join(
        f"{sum(value < 1 for value in values)}"
        + (f" of {len(values)}" if len(values) < len(rows) else "")
        + f" vs {LABELS[name]}"
        for name, values in ratios.items()
    )
    if lost:
        lines.append(f"losses (!) of {len(rows)}: {lost}")
    return lines


def _title(each: dict) -> str:
    plural = "thread" if each["threads"] == 1 else "threads"
    title = f"{PASSES[each['pass']]}, {each['dtype']}, {each['threads']} {plural}"
    if each["jit"]:
        title += ", all compiled by XLA"
    if each["cold"]:
        title += ": cold weights, every call takes another kernel, from DRAM"
    return title


def _sections(found: dict) -> list[str]:
    lines = []
    for section, prefix in (("results", ""), ("eager", "Called from Python: "), ("grid", "Map: ")):
        for each, rows in _tables(found[section]):
            lines += ["", prefix + _title(each), *_table(rows)]
            if section == "eager":
                lines.append("Keras (Dense) and layer (SharedDense) are layers: compare these two")
    kernel_only, doubted = doubts.believed(found["kernel_only"])
    for each, rows in _tables(kernel_only):
        plural = "thread" if each["threads"] == 1 else "threads"
        lines += [
            "",
            f"Kernel only, {each['dtype']}, {each['threads']} {plural}: the core's forward product "
            "without TensorFlow, bias or activation, vs np.matmul of the concatenated inputs "
            f"({found['blas']}; less the time of a 1 x 1 product)",
            *_table(rows, "core"),
        ]
        reasons = {row["skipped"]["numpy"] for row in rows if "numpy" in row["skipped"]}
        lines += [f"NumPy is left out: {reason}" for reason in sorted(reasons)]
    if doubted:
        lines.append(
            f"NumPy took more than {doubts.SLOWER_THREADS} times as long on all threads as on one, "
            f"and no ratio is told: {', '.join(doubted)}"
        )
    return lines


def _peers(found: dict) -> list[str]:
    """Beside the op's figures, which are of another process: no ratio of rounds."""

    def key(row: dict) -> tuple:
        return (row["shape"], *setting(row).values())

    ours = {
        section: {key(row): row["us"]["op"]["median"] for row in found[section]}
        for section in ("results", "eager")
    }
    lines = []
    names = dict.fromkeys((row["peer"], row["version"]) for row in found["peers"])
    for name, version in names:
        for each, rows in _tables([row for row in found["peers"] if row["peer"] == name]):
            width = max(14, *(len(row["shape"]) for row in rows))
            lines += [
                "",
                f"{name} {version}: {_title(each)}; called from Python, plain reuse",
                f"{'shape':<{width}}{name + ' us':>11}{'+-':>5}{'error':>9}"
                f"{'/op graph':>11}{'/op eager':>11}  use",
            ]
            for row in rows:
                us = row["us"]["median"]
                known = [ours[section].get(key(row)) for section in ("results", "eager")]
                cells = "".join(f"{_ratio(us / op if op else None):>11}" for op in known)
                lines.append(
                    f"{row['shape']:<{width}}{_us(us):>11}{spread_of(row['us']):>5.0%}"
                    f"{row['error']:>9.1e}{cells}  {row['use']}"
                )
    return lines


def _limit_lines(found: dict) -> list[str]:
    lines = [f"limit: {found['limit']['source']}"]
    for machine in found["limit"]["machines"]:
        levels = []
        for level in machine["levels"]:
            capacity = (
                "" if level["capacity"] is None else f" ({level['capacity'] / 2**20:.0f} MiB)"
            )
            rates = "/".join(f"{level[way] / 1e9:.0f}" for way in ("read", "write", "copy"))
            levels.append(f"{level['name']}{capacity} {rates}")
        rate = ", ".join(f"{dtype} {fma / 1e9:.0f}" for dtype, fma in machine["fma"].items())
        line = f"  threads: {machine['threads']}; FMA GFLOP/s: {rate}"
        lines.append(line + (f"; GB/s read/write/copy: {', '.join(levels)}" if levels else ""))
    return lines


def _memory(found: dict) -> list[str]:
    if not found["memory"]:
        return []
    first = found["memory"][0]
    names = list(first["peak_bytes"])
    lines = [
        "",
        f"Memory of forward and backward, {first['dtype']}: peak above what the operands take; one "
        f"kernel gradient is {_bytes(first['dkernel_bytes'])}",
        f"{'shape':<18}" + "".join(f"{name:>10}" for name in names),
    ]
    for row in found["memory"]:
        cells = "".join(f"{_bytes(row['peak_bytes'][name]):>10}" for name in names)
        lines.append(f"{row['shape']:<18}{cells}")
    return lines


def _load(found: dict) -> list[str]:
    if not found["load"]:
        return []
    lines = ["", "From the start of a process to its results, seconds"]
    for row in found["load"]:
        steps = ", ".join(
            f"{step} {values['median']:.3g}" for step, values in row["seconds"].items()
        )
        way = "compiled by XLA" if row["jit"] else "in a graph"
        lines.append(f"{row['contestant']}, {row['dtype']}, {way}: {steps}")
    return lines


def _models(found: dict) -> list[str]:
    if not found["models"]:
        return []
    lines = [
        "",
        "Whole models, Adam: times as long as with SharedDense (spread), with a Dense per input "
        "and with one concat; largest relative difference of the first losses from a Dense's",
    ]
    width = max(len(f"{row['model']}, {row['shape']}") for row in found["models"])
    lines.append(
        f"{'model':<{width}}  {'':<14}{'SharedDense us':>15}{'vs Dense':>20}{'vs concat':>20}"
        f"{'differ by':>11}"
    )

    def cell(values: dict[str, float] | None) -> str:
        if values is None:  # left out, as "skipped" says
            return "-"
        return f"{_ratio(values['median'])}({values['low']:.2f}-{values['high']:.2f})"

    for row in found["models"]:
        name = f"{row['model']}, {row['shape']}"
        lines.append(
            f"{name:<{width}}  {row['pass']:<14}{_us(row['us']['shared']['median']):>15}"
            f"{cell(row['ratio'].get('dense')):>20}{cell(row['ratio'].get('concat')):>20}"
            f"{row['loss_difference']['shared']:>11.1e}"
        )
    return lines


def text(found: dict) -> str:
    """The tables, with what is needed to read them."""
    m, v, made = found["machine"], found["versions"], found["commit"]
    revision = "no git checkout"
    if found.get("package"):
        revision = f"of an unknown commit, the package in {found['package']}"
    elif made:
        revision = f"commit {made['hash'][:12]}" + (", with changes" if made["dirty"] else "")
    lines = [
        f"{m['cpu']}, {m['cores']} cores, {m['threads']} threads, {m['isa']}",
        ", ".join(f"{name} {version}" for name, version in v.items()),
        f"{revision}; {found['command']}",
        f"bias and relu; medians of {found['runs']} x {found['rounds']} rounds (processes x in "
        f"each); +- {SPREADS[found['runs'] == 1]}",
        "vs: times the op is faster than plain reuse (TensorFlow's fused matmul per input), Keras "
        "(a Dense per input), concat and stack (with their copies), XLA (of plain reuse); ! where "
        "it is slower",
        "error: the op's largest against float64, relative to its tensor; then plain reuse's",
        *_limit_lines(found),
        "  of limit: the least time of arithmetic (FMA) and of moving the operands of each product "
        "once (by the level that holds them), as a part of the op's time",
        *_sections(found),
        *_peers(found),
        *_memory(found),
        *_load(found),
        *_models(found),
    ]
    doubtful = doubts.doubtful_rows([*found["results"], *found["grid"]])
    if doubtful:
        lines += ["", f"Faster than the limit allows, so do not believe: {'; '.join(doubtful)}"]
    if doubts.busy(found["limit"]["machines"]):
        lines += [
            "",
            "Several threads reach hardly more than one: they share a core, or something else was "
            "running, and then no figure is to be believed.",
        ]
    disturbed = doubts.disturbed_rows(found["results"])
    if disturbed:
        lines += [
            "",
            "Plain reuse and Keras, the same products, differ by more than their spreads, so "
            f"something disturbed these rows: {'; '.join(disturbed)}",
        ]
    if found["skipped"]:
        lines += ["", "Skipped:"]
        lines += [f"  {name}: {reason}" for name, reason in found["skipped"].items()]
    if found["interrupted"]:
        lines += ["", "Interrupted: this is what was complete by then."]
    return "\n".join(lines)
