"""The examples run as a reader runs them, with the op and without."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import warm

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
EXAMPLE = EXAMPLES / "siamese_digits.py"
EPOCHS = 5


def run_example(out, **variables):
    environment = {**os.environ, **variables}
    if "SHARED_DENSE_DISABLE" not in variables:
        environment.pop("SHARED_DENSE_DISABLE", None)
    start = warm.python() if variables else [sys.executable]  # what TensorFlow logs as it starts
    return subprocess.run(
        [*start, str(EXAMPLE), "--epochs", str(EPOCHS), "--seed", "3", "--out", str(out)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def numbers(pattern, text):
    found = re.search(pattern, text, re.MULTILINE)
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
        [*warm.python(), str(EXAMPLE), "--epochs", "0"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    assert "--epochs" in done.stderr


@pytest.fixture
def example(monkeypatch, capsys):
    """Runs an example's main() and gives what it printed, once it says that all is well."""
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"))

    def run(name, *arguments):
        code = importlib.import_module(name).main(list(arguments))
        printed = capsys.readouterr().out
        assert code == 0, printed
        return printed

    return run


def epochs(path, most):
    """On the fallback as many as show that losses are those of plain reuse, and no skill yet."""
    return ["--epochs", str(most if path == "op" else 3)]


def losses_of(text):
    """Of SharedDense and of plain reuse, by epoch; they must have been compared."""
    assert re.search(r"largest difference \S+ of the first loss, bound \S+: OK", text)
    rows = re.findall(r"^ +\d+ +([\d.]+) +([\d.]+)$", text, re.MULTILINE)
    assert len(rows) >= 3
    return np.array(rows, float).T


def test_triplet_digits(path, example):
    text = example("triplet_digits", *epochs(path, 5))
    shared, _ = losses_of(text)
    if path == "fallback":
        return
    assert shared[-1] < 0.3 * shared[0]
    (accuracy,) = numbers(r"accuracy in 16 numbers: ([\d.]+)%", text)
    assert accuracy > 93


def test_detection_head(path, example):
    text = example("detection_head", "--images", "400", *epochs(path, 5))
    shared, _ = losses_of(text)
    if path == "fallback":
        return
    assert shared[-1] < 0.5 * shared[0]
    found = re.findall(r"cells +\d+ +([\d.]+)%", text)
    assert len(found) == 5 and min(map(float, found)) > 30  # one head, and it works on every map
    (all_maps,) = numbers(r"^all +\d+ +([\d.]+)%", text)
    assert all_maps > 55


def test_tied_autoencoder(path, example):
    text = example("tied_autoencoder", *epochs(path, 8))
    losses_of(text)
    if path == "fallback":
        return
    tied, error = numbers(r"^tied +(\d+) +([\d.]+)$", text)
    untied, other = numbers(r"^untied +(\d+) +([\d.]+)$", text)
    (without,) = numbers(r"^no code +([\d.]+)$", text)
    assert untied - tied == 64 * 48 + 48 * 12  # one kernel for each of the two pairs
    assert error < 0.3 * without
    assert error < 1.15 * other


def test_byol(path, example):
    text = example("byol", *epochs(path, 10))
    losses_of(text)
    if path == "fallback":
        return
    rows = re.findall(r"kernels?\S*.*? +([\d.]+) +([\d.]+) +([\d.]+)%$", text, re.MULTILINE)
    (_, spread, accuracy), (loss, collapsed, worse) = np.array(rows, float)
    assert spread > 0.4 and collapsed < 0.15 and loss < 0.02
    assert accuracy > 90 and accuracy > worse + 3


def test_multi_task(path, example):
    text = example("multi_task", *epochs(path, 5))
    shared, _ = losses_of(text)
    if path == "fallback":
        return
    assert shared[-1] < 0.2 * shared[0]
    for task, least in (("digit", 75), ("odd", 90), ("turn", 80)):  # chance: 10, 50, 25
        together, alone = numbers(rf"^{task} +([\d.]+)% +([\d.]+)%$", text)
        assert min(together, alone) > least


def test_two_tower(path, example):
    text = example("two_tower", "--epochs", "8")
    assert re.search(r"exported query tower: largest difference \S+: OK", text)
    recall = {
        name: numbers(rf"^{name} +([\d.]+)% +([\d.]+)% +([\d.]+)%$", text)
        for name in ("words in common", "towers, untrained", "towers, trained")
    }
    trained = recall.pop("towers, trained")
    for other in recall.values():
        assert all(a > b + 5 for a, b in zip(trained, other, strict=True))


def test_two_towers_train_alike_on_both_paths(example, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import keras
    import plain
    import two_tower

    import shared_dense as sd

    seen, _ = two_tower.load(0)

    def losses():
        keras.utils.set_random_seed(0)
        model, _ = two_tower.build()
        return two_tower.train(model, seen, 3, seed=0)

    op = losses()
    assert sd.status().last_path == "op"
    with sd.fallback():
        fallback = losses()
    steps = len(seen["query"]) // two_tower.BATCH * np.arange(1, 4)
    bound = plain.allowed_difference(steps, two_tower.WORDS)
    assert np.all(np.abs(np.subtract(op, fallback)) <= bound * fallback[0])
    assert op[-1] < 0.5 * op[0]
