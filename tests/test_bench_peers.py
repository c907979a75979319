"""Other libraries in the benchmark: they compute the same layer, of the same numbers."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import exact, peers
from bench.shapes import Shape

SHAPE = Shape((3, 1), 33, 7)


@pytest.mark.parametrize("backward", [False, True])
def test_a_peer_is_judged_by_float64(backward, monkeypatch):
    def layer_of(factor):
        def layer(drawn, dtype, backward, threads):
            signs = None if not backward else [x @ drawn.kernel + drawn.bias > 0 for x in drawn.xs]
            results = exact.layer(drawn, signs, dtype)
            results[-1] = results[-1] * factor
            return lambda: results, drawn, list

        return layer

    for factor, least, most in ((1.0, -1.0, 1e-12), (1.01, 1e-3, 0.1)):
        monkeypatch.setitem(peers.LAYERS, "fake", layer_of(factor))
        row = peers.time_shape("fake", SHAPE, "float32", backward, 1, rounds=2, budget=1e-4)
        assert least < row["error"] < most and min(row["seconds"]["fake"]) > 0


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", list(peers.LAYERS))
def test_peers_compute_the_layer(name, dtype, backward):
    pytest.importorskip(name)
    row = peers.time_shape(name, SHAPE, dtype, backward, 1, rounds=1, budget=1e-4)
    assert 0 < row["error"] < 33 * (2.0**-24 if dtype == "float32" else 2.0**-8)


def test_numbers_are_the_same_for_all():
    """What TensorFlow's contestants take is what the peers draw."""
    from bench import contestants

    drawn, operands = exact.draw(SHAPE, "float32"), contestants.make_operands(SHAPE)
    for want, got in zip(
        [*drawn.xs, drawn.kernel, *drawn.dys],
        [*operands.xs, operands.kernel, *operands.dys],
        strict=True,
    ):
        np.testing.assert_array_equal(got, want)
