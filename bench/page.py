# ruff: noqa: RUF001
"""Writes the figures of a results file into pages: `python -m bench.page`.

docs/benchmarks.json is the file that README.md and docs/benchmarks.md quote. What stands in a page
between `<!-- bench: TITLE -->` and `<!-- end -->` is the table that `report` gives this title, or a
summary that is made here; the plots are made by `plots`.
"""

from __future__ import annotations

import json
import re
import sys
from statistics import median

from bench import plots, report, tables
from bench.processes import ROOT

RESULTS = ROOT / "docs/benchmarks.json"
PAGES = ("README.md", "docs/benchmarks.md")
# Of every kind; the page has them all.
FIRST_SCREEN = (
    "128x1 768->768", "8x1 4096->4096", "8x1 1024->1024", "8x8 1024->1024", "16x32 512->512",
    "64x16 128->128", "2x1024 1024->1024", "2x128 300->100", "5x[4000,1000,250,60,15] 256->3",
    "2x[2000,500] 64->1",
)  # fmt: skip
FIRST_RATIOS = ("plain", "concat", "xla")


def first_screen(found: dict) -> str:
    """The README's tables, in float32, neither compiled nor cold: of one thread, and of several."""
    columns = report.versus(FIRST_RATIOS)
    columns["vs the fastest"] = lambda row: min(row["ratio"].values(), key=lambda r: r["median"])
    text = ""
    for title, rows in report.titled(found["results"], each_pass=False):
        if not re.fullmatch(r"float32, \d+ threads?", title):
            continue
        table = tables.of_rows(
            rows,
            {f"{title}: inputs × rows, in → units": tables.shape},
            columns,
            spread=False,
            shown=lambda row: row["shape"] in FIRST_SCREEN,
        )
        spreads = [tables.spread_of(row["ratio"][name]) for row in rows for name in FIRST_RATIOS]
        op, plain = (max(row["error"][who] for row in rows) for who in ("op", "plain"))
        text += (
            f"{table}\nErrors of at most {op:.0e} (plain reuse {plain:.0e}). From process to "
            f"process these ratios moved by ±{median(spreads):.0%} in the median, at most "
            f"±{max(spreads):.0%}.\n\n"
        )
    most = max(found["memory"], key=lambda row: row["inputs"])
    peak = {name: f"{value / 1e6:.0f} MB" for name, value in most["peak_bytes"].items()}
    return (
        f"{text}Memory of forward and backward, {tables.shape(most)}: {peak['op']} above the "
        f"operands, plain reuse {peak['plain']}, concat {peak['concat']}. {report.machine(found)}"
    )


def filled(text: str, found: dict) -> str:
    """The page with its figures as the results have them.

    Raises:
        KeyError: the page asks for a table that there is not.
    """
    made = {"first screen": first_screen(found), "machine": report.machine(found)}
    made |= report.sections(found)

    def block(match: re.Match) -> str:
        return f"<!-- bench: {match[1]} -->\n{made[match[1]]}<!-- end -->"

    return re.sub(r"<!-- bench: (.+?) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def main() -> int:
    """Writes the pages and the plots."""
    found = json.loads(RESULTS.read_text())
    for name in PAGES:
        page = ROOT / name
        page.write_text(filled(page.read_text(), found))
    plots.draw(found, ROOT / "docs/images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
