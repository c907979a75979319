"""Comparing two results of the benchmark."""

import copy
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import __main__ as command  # noqa: E402
from bench import compare, report, run  # noqa: E402


@pytest.fixture
def sample():
    return json.loads((ROOT / "tests/bench_sample.json").read_text())


def write(path, found):
    path.write_text(report.to_json(found))
    return str(path)


def test_compare_marks_what_changed_by_more_than_the_spread(sample, tmp_path, capsys):
    other = copy.deepcopy(sample)
    other["commit"] = {"hash": "1" * 40, "dirty": True}
    slower, faster, within = other["results"][:3]
    for row, factor in ((slower, 1.5), (faster, 0.5), (within, 1.05)):
        row["us"]["op"] = {name: factor * us for name, us in row["us"]["op"].items()}
    del other["grid"][0]
    paths = [write(tmp_path / "a", sample), write(tmp_path / "b", other)]
    assert command.main(["compare", *paths]) == 0
    text = capsys.readouterr().out
    lines = [line for line in text.splitlines() if " float32 2t" in line]
    assert "1.500 [1.399, 1.608] ! " in lines[0]
    assert "0.500 [0.466, 0.536] + " in lines[1]
    assert " 1.050 [" in lines[2] and not re.search(r"\] [+!]", lines[2])
    assert len(re.findall(r"\] [+!] ", text)) == 2
    assert "commit 111111111111, with changes" in text
    assert "grid: 1 only in the first, such as 1x1 512->512 forward float32 2t" in text
    for words in ("torch 2x1", "forward float32 1t cold", "float32 2t jit"):
        assert words in text


def test_compare_tells_how_well_ratios_are_reproduced(sample, tmp_path, capsys):
    other = copy.deepcopy(sample)
    for section in compare.SECTIONS:
        for row in (row for row in other[section] if "ratio" in row):
            for ratio in row["ratio"].values():
                ratio["median"] = 1.2 * ratio["high"]  # 1.04 or 1.04 / 0.97 times the median
    ratios = other["results"][0]["ratio"]
    ratios["plain"]["median"] = sample["results"][0]["ratio"]["plain"]["low"]
    paths = [write(tmp_path / "a", sample), write(tmp_path / "b", other)]
    assert command.main(["compare", *paths]) == 0
    text = capsys.readouterr().out
    count = sum(len(row.get("ratio", ())) for s in compare.SECTIONS for row in sample[s])
    assert f"Ratios in both: {count}. Half of the second's are within 25% of the first's" in text
    assert f"{1 / count:.0%} are within the first's spread" in text


def test_compare_refuses_different_machines(sample, tmp_path, capsys):
    other = copy.deepcopy(sample)
    other["machine"]["cpu"] = "another"
    paths = [write(tmp_path / "a", sample), write(tmp_path / "b", other)]
    assert command.main(["compare", *paths]) == 2
    told = capsys.readouterr()
    assert "Different machines: cpu made up against another" in told.err and not told.out
    assert "--force" in told.err
    assert command.main(["compare", *paths, "--force"]) == 0
    told = capsys.readouterr()
    assert "Different machines" in told.err and "1.000 [" in told.out


def test_compare_knows_cold_weights_on_another_cache(sample, tmp_path, capsys):
    """There their number is another."""
    other = copy.deepcopy(sample)
    cold = [row for row in other["results"] if row["kernels"] > 1]
    for row in cold:
        row["kernels"] += 5
    paths = [write(tmp_path / "a", sample), write(tmp_path / "b", other)]
    assert command.main(["compare", *paths]) == 0
    text = capsys.readouterr().out
    assert cold and text.count(" cold ") == len(cold) and "only in the" not in text


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}'])
def test_compare_reads_only_its_own_layout(text, tmp_path, capsys):
    path = tmp_path / "a"
    path.write_text(text)
    assert command.main(["compare", str(path), str(path)]) == 2
    assert re.search(r"cannot be read|has layout (None|1)", capsys.readouterr().err)


def test_compare_knows_every_section_with_times(sample):
    timed = {name for name in run.SECTIONS if any("us" in row for row in sample[name])}
    assert timed == set(compare.SECTIONS)
