"""The plots say what the results say: their text is read back from the SVG."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pytest

from bench import plots


def spread(value):
    return {"median": value, "low": value * 0.9, "high": value * 1.2}


def row(inputs, rows, plain, **more):
    return {
        "inputs": inputs, "rows": [rows] * inputs, "in_features": 512, "units": 256,
        "dtype": "float32", "threads": 2, "jit": False, "kernels": 1, "pass": "forward",
        "us": {"op": spread(10.0), "plain": spread(10.0 * plain)},
        "ratio": {"plain": spread(plain)}, "gflop": 0.001 * rows, "bytes": 1e6 * inputs, **more,
    }  # fmt: skip


RESULTS = {
    "machine": {"cpu": "A processor", "threads": 2, "isa": "avx2"},
    "versions": {"tensorflow": "2.21.0"},
    "commit": {"hash": "0123456789abcdef", "dirty": False},
    "runs": 3,
    "rounds": 5,
    "limit": {
        "machines": [
            {
                "threads": n,
                "fma": {"float32": n * 1e11},
                "levels": [{"name": "L2", "read": n * 9e10}],
            }
            for n in (1, 2)
        ]
    },
    "grid": [
        row(1, 4, 0.87),
        row(2, 4, 1.25),
        row(2, 16, 3.5),
        row(2, 16, 12.4, **{"pass": "forward+backward"}),
    ],
    "results": [row(2, 8, 1.5), row(2, 8, 9.0, jit=True)],
}


def texts(folder, name):
    svg = (folder / f"{name}.svg").read_text()
    return [re.sub(r"\s+", " ", text).strip() for text in re.findall(r"<text[^>]*>([^<]*)<", svg)]


def test_every_plot_says_its_figures(tmp_path):
    files = plots.draw(RESULTS, tmp_path / "new")
    assert [file.stem for file in files] == ["grid", "roofline"]
    found = {file.stem: texts(file.parent, file.stem) for file in files}
    for words in found.values():
        assert (
            "A processor, 2 threads, avx2 · TensorFlow 2.21.0 · 3 runs of 5 rounds · commit "
            "0123456789ab"
        ) in words
    grid = found["grid"]
    assert {"0.87", "1.25", "3.50", "12", "forward, 512 → 256"} <= set(grid)
    assert "forward + backward, 512 → 256" in grid
    # The cell without a result stays empty.
    assert len([text for text in grid if re.fullmatch(r"\d+\.\d\d|12", text)]) == 4
    assert {"FMA 200 GFLOP/s", "L2 180 GB/s", "shared-dense", "plain reuse"} <= set(
        found["roofline"]
    )


def test_only_warm_uncompiled_rows_are_on_the_roofline(tmp_path):
    plots.draw({**RESULTS, "grid": []}, tmp_path)
    svg = (tmp_path / "roofline.svg").read_text()
    groups = re.findall(r'id="PathCollection_\d+".*?</g>\s*</g>', svg, re.DOTALL)
    # The points of both contestants, and of both in the legend.
    assert [group.count("<use") for group in groups] == [1, 1, 1, 1]


def test_what_is_not_there_is_not_drawn(tmp_path):
    assert plots.draw({**RESULTS, "grid": []}, tmp_path) == [tmp_path / "roofline.svg"]


@pytest.mark.parametrize(
    "other", [{"jit": True}, {"dtype": "bfloat16"}, {"pass": "forward+backward"}]
)
def test_results_without_a_row_for_the_roofline(other, tmp_path):
    rows = [row(2, 8, 1.5, **other)]
    assert plots.draw({**RESULTS, "results": rows}, tmp_path)
    assert not (tmp_path / "roofline.svg").exists()


def test_the_same_results_make_the_same_files(tmp_path):
    for name in ("a", "b"):
        plots.draw(RESULTS, tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_text() == (tmp_path / "b" / file.name).read_text()
