"""Figures that nobody should believe are told, or left out."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import doubts, report, tables  # noqa: E402


@pytest.fixture
def sample():
    return json.loads((ROOT / "tests" / "bench_sample.json").read_text())


def test_what_is_faster_than_possible_is_doubtful(sample):
    row, other = sample["results"][:2]
    for each, factor in ((row, 1.05), (other, 1.15)):
        each["floor_us"] = factor * each["us"]["plain"]["median"]
        each["us"] = {"plain": each["us"]["plain"], "op": {**each["us"]["plain"], "median": 1e9}}
    assert (doubts.too_fast(row), doubts.too_fast(other)) == ([], ["plain"])
    assert f"do not believe: {tables.shape(other)}." in report.text(sample)
    other["dtype"] = "bfloat16"
    assert doubts.too_fast(other) == []


def test_a_busy_machine_is_told(sample):
    one, two = sample["limit"]["machines"]
    assert not doubts.busy([one, two]) and "something else was running" not in report.text(sample)
    two["fma"]["float32"] = 1.2 * one["fma"]["float32"]
    assert "something else was running" in report.text(sample)
    assert not doubts.busy([one]) and not doubts.busy([two])


def test_what_was_disturbed_is_told(sample):
    """Plain reuse and Keras run the same; 200 and 190 us in the sample."""
    row = sample["results"][0]
    assert not any(map(doubts.disturbed, sample["results"]))
    row["us"]["keras"] = {"median": 230.0, "low": 225.0, "high": 240.0}
    assert doubts.disturbed(row)
    assert f"differ by more than their spreads: {tables.shape(row)}." in report.text(sample)
    row["us"]["plain"]["high"] = 226.0
    assert not doubts.disturbed(row)


def test_numpy_whose_threads_are_in_each_others_way_has_no_ratio(sample):
    """A ratio over them says how busy the machine was, not how fast the core is."""
    one = dict(sample["kernel_only"][0], threads=1)
    two = dict(one, threads=2, us={**one["us"], "numpy": dict(one["us"]["numpy"])})
    assert doubts.believed([one, two]) == [one, two]
    two["us"]["numpy"]["median"] = 2.01 * one["us"]["numpy"]["median"]
    told = doubts.believed([one, two])
    assert told[0] == one and "numpy" not in told[1]["ratio"] and "core" in told[1]["us"]
    text = report.text({**sample, "kernel_only": [one, two]})
    assert f"NumPy is left out ({tables.shape(one)}): more than 2 times as long" in text
