"""The pages quote the committed results, and nothing else."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import page, plots, report
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


def test_every_table_is_on_a_page():
    asked = {
        name
        for file in page.PAGES
        for name in re.findall(r"<!-- bench: ([\w ]+) -->", (ROOT / file).read_text())
    }
    assert asked == set(page.BLOCKS)


def test_plots_are_of_the_results(found, tmp_path):
    for file in plots.draw(found, tmp_path):
        assert (ROOT / "docs/images" / file.name).read_text() == file.read_text()


@pytest.mark.parametrize("table", [report._models, page._models, page._models_in_short])
def test_a_way_that_could_not_be_timed_has_an_empty_cell(found, table):
    def empty_cells(changed):
        text = table(changed)
        lines = text.splitlines() if isinstance(text, str) else text
        line = next(line for line in lines if changed["models"][0]["model"] in line)
        return len(re.findall("(?<=\\s)[\u2013-](?=\\s)", line))

    assert empty_cells(found) == 0
    changed = json.loads(json.dumps(found))
    del changed["models"][0]["ratio"]["concat"]
    assert empty_cells(changed) == 1


def test_losses_are_bold_and_who_does_not_take_part_is_named_so():
    shown = [page._times(value) for value in (0.994, 0.996, 1.94, 1.96, 12.34, None)]
    assert shown == [
        "**0.99\u00d7**",
        "1.00\u00d7",
        "1.94\u00d7",
        "2.0\u00d7",
        "12.3\u00d7",
        "\u2013",
    ]
    assert page._times({"median": 0.5}) == "**0.50\u00d7**"
