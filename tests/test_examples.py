"""The examples run as a reader runs them, with the op and without."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "siamese_digits.py"
EPOCHS = 5


def run_example(out, **variables):
    environment = {**os.environ, **variables}
    if "SHARED_DENSE_DISABLE" not in variables:
        environment.pop("SHARED_DENSE_DISABLE", None)
    return subprocess.run(
        [sys.executable, str(EXAMPLE), "--epochs", str(EPOCHS), "--seed", "3", "--out", str(out)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def numbers(pattern, text):
    found = re.search(pattern, text)
    assert found, f"no {pattern!r} in:\n{text}"
    return [float(group) for group in found.groups()]


@pytest.mark.parametrize("disabled", [False, True], ids=["op", "disabled"])
def test_siamese_digits(tmp_path, disabled):
    matplotlib_image = pytest.importorskip("matplotlib.image")
    pytest.importorskip("sklearn")
    out = tmp_path / "a" / "digits.png"
    done = run_example(out, **({"SHARED_DENSE_DISABLE": "1"} if disabled else {}))
    text = done.stdout
    assert done.returncode == 0, text + done.stderr

    if disabled:
        assert "Path: fallback (SHARED_DENSE_DISABLE is set" in text
        assert "The op is not used" in text
    else:
        assert "Path: op" in text
        assert done.stderr == ""  # no log noise, and no progress bar where nobody watches

    losses = [
        (float(x), float(y)) for x, y in re.findall(r"^ +\d+ +(0\.\d{8}) +(0\.\d{8}) ", text, re.M)
    ]
    assert len(losses) == EPOCHS
    for first, second in losses:
        assert abs(first - second) < 1e-4 * second
        assert 0 < first < losses[0][0] * 1.0001
    assert losses[-1][0] < 0.6 * losses[0][0]
    assert re.search(r"bound \S+: OK", text)

    for score, least in (("same or different", 90), ("1-nearest-neighbour", 94)):
        first, second = numbers(rf"{score} +([\d.]+)% +([\d.]+)%", text)
        assert least < first < 100
        assert abs(first - second) < 0.5
    for milliseconds in numbers(r"median time of a step +([\d.]+) ms +([\d.]+) ms", text):
        assert 0 < milliseconds < 1000

    image = matplotlib_image.imread(out)
    assert image.shape[0] > 400 and image.shape[1] > 800
    # A drawing: not blank, and with the colours of the digits.
    assert (
        len({tuple(pixel) for pixel in (image[::4, ::4, :3] * 255).astype(int).reshape(-1, 3)}) > 50
    )


def test_siamese_digits_rejects_no_epochs():
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--epochs", "0"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    assert "--epochs" in done.stderr
