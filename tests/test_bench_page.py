# ruff: noqa: RUF001
"""The pages quote the committed results, and nothing else."""

from __future__ import annotations

import functools
import json
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import page, plots, report, tables
from bench.processes import ROOT


@pytest.fixture(scope="module")
def found():
    return json.loads(page.RESULTS.read_text())


@pytest.mark.parametrize("name", page.PAGES)
def test_pages_quote_the_results(found, name):
    """Else: `python -m bench.page`."""
    text = (ROOT / name).read_text()
    assert re.search("<!-- bench: ", text)
    assert page.filled(text, found) == text
    changed = json.loads(json.dumps(found))
    for row in [*changed["results"], *changed["models"]]:
        for ratio in row["ratio"].values():
            ratio["median"] *= 2
    assert page.filled(text, changed) != text


def test_few_threads_come_first(found):
    """Their figures move less."""
    for name in page.PAGES:
        text = (ROOT / name).read_text()
        shown = page.filled(text, found)
        for one in re.findall(r"bench: (.*1 thread.*) -->", text):
            assert shown.index(one) < shown.index(one.replace("1 thread", "2 threads"))
    first = page.first_screen(found)
    assert first.index("| float32, 1 thread:") < first.index("| float32, 2 threads:")
    titles = [*report.sections(found)]
    assert titles.index("forward, float32, 1 thread") == 1 + titles.index("limits")


def test_plots_are_of_the_results(found, tmp_path):
    for file in plots.draw(found, tmp_path):
        assert (ROOT / "docs/images" / file.name).read_text() == file.read_text()


def test_a_way_that_could_not_be_timed_has_an_empty_cell(found):
    def empty_cells(results):
        return report.sections(results)["models"].count("| –")

    changed = json.loads(json.dumps(found))
    del changed["models"][0]["ratio"]["concat"]
    assert (empty_cells(found), empty_cells(changed)) == (0, 1)


def spread(low, median, high):
    return {"median": median, "low": low, "high": high}


def test_only_a_loss_larger_than_the_spread_is_bold():
    ratios = [
        (spread(0.8, 0.9, 0.98), "**0.90×** ±10%"),
        (spread(0.8, 0.9, 1.01), "0.90× ±12%"),
        (spread(0.996, 0.996, 0.996), "1.00× ±0%"),
        (spread(1.5, 1.94, 3.0), "1.94× ±39%"),
        (spread(1.95, 1.96, 2.0), "2.0× ±1%"),
        (spread(10.0, 12.34, 14.0), "12.3× ±16%"),
        (None, "–"),
    ]
    assert [tables.times(ratio, spread=True) for ratio, _ in ratios] == [said for _, said in ratios]


def test_a_ratio_of_medians_has_the_spread_of_both():
    assert tables.over(spread(1, 2, 4), spread(4, 6, 8)) == spread(1, 3, 8)


def test_passes_stand_beside_each_other_over_means_and_losses():
    rows = [
        {"shape": name, "pass": which, "vs": ratio}
        for name, which, ratio in (
            ("a", "forward", spread(0.4, 0.5, 0.6)),
            ("b", "forward", spread(7.0, 8.0, 9.0)),
            ("b", "backward", spread(0.5, 0.8, 2.0)),
        )
    ]
    text = tables.of_rows(
        rows, {"shape": lambda row: row["shape"]}, {"vs x": lambda row: row["vs"]}, spread=False
    )
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert cells[0] == ["shape", "forward: vs x", "backward: vs x"]
    assert cells[2:] == [
        ["a", "**0.50×**", "–"],
        ["b", "8.0×", "0.80×"],
        ["geometric mean of 2", "2.0×", "0.80×"],
        ["slower (bold)", "1 of 2 (1)", "1 of 1 (0)"],
    ]
    assert len({len(line) for line in text.splitlines()}) == 1  # padded
    short = tables.of_rows(
        rows,
        {"shape": lambda row: row["shape"]},
        {"vs x": lambda row: row["vs"]},
        shown=lambda row: row["shape"] == "b",
    )
    assert "| a" not in short and "geometric mean of 2" in short


@pytest.mark.parametrize("terminal", [False, True])
def test_a_terminal_draws_what_pages_quote(terminal, monkeypatch, capsys):
    console = functools.partial(Console, force_terminal=terminal, width=80)
    monkeypatch.setattr(report, "Console", console)
    text = "### one\n" + tables.table(["a", "b"], [["1", "**0.50×**"]])
    report.show(text)
    said = capsys.readouterr().out
    assert (
        "0.50×" in said
        and ("**" in said) != terminal
        and (said.strip() == text.strip()) != terminal
    )
