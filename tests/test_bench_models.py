"""The whole models of the benchmark: one model in three ways, each doing what it says."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import calls, interleaved, models, shapes

MODELS = [
    stack._replace(rows=tuple(min(rows, 5) for rows in stack.rows[:4]), widths=(17, 9, 6))
    for stack in [*shapes.STACKS, shapes.parse_any("3x5 8->8->8")]
]


@pytest.fixture(params=MODELS, ids=lambda stack: stack.model)
def model(request):
    return request.param


def test_three_ways_are_one_model(path, model):
    xs = models.inputs(model)
    wanted = models.Written(model, "dense").predict(xs)
    for way in models.WAYS:
        got = models.Written(model, way).predict(xs)
        assert [y.shape for y in got] == [(rows, 6) for rows in model.rows]
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, atol=26 * 2.0**-24 * 10)


def test_losses_agree_and_fall(path, model):
    found = models.losses(model, "dense")
    assert found[-1] < found[0]
    # Adam divides a gradient by its size: one that is a rounding error takes a step all the same.
    assert max(models.difference(model).values()) < 1e-3


@pytest.mark.parametrize(
    ("way", "products"),
    [
        ("shared", {"SharedDense>SharedMatMul": 2, "SharedDense>SharedMatMulGrad": 2}),
        # The first layer's inputs need no gradient.
        ("dense", {"MatMul": 4 * (2 + 3)}),
        ("concat", {"MatMul": 2 + 3, "ConcatV2": 2, "Split": 0, "SplitV": 1}),
    ],
)
def test_a_step_is_made_of_what_it_says(way, products):
    model = MODELS[3]
    written = models.Written(model, way)
    step = tf.function(written.train, autograph=False)
    traced = step.get_concrete_function(models.inputs(model)).graph
    found = Counter(op.type for op in traced.get_operations())
    assert {name: found[name] for name in products} == products


@pytest.mark.parametrize("training", [False, True])
def test_a_row_of_the_report(training, monkeypatch):
    def timed(runs, rounds, budget, empty):
        assert runs.keys() == empty.keys() == set(models.WAYS)
        assert min(run(2) for run in runs.values()) > 0  # a real one of each
        return {way: [1.0] * rounds for way in runs if way != "concat"}

    # So small a model may take no longer than the loop around it, on a busy machine.
    monkeypatch.setattr(interleaved, "measure", timed)
    row = models.measure(MODELS[0], training, rounds=2, budget=0.001)
    assert row["seconds"] == {"shared": [1.0, 1.0], "dense": [1.0, 1.0]}
    assert row["skipped"] == {"concat": interleaved.LATE}


def test_what_python_adds_is_timed_of_equal_calls():
    found = {name: call() for name, call in calls.contestants(3).items()}
    found["raw op"] = found["raw op"].outputs
    given = found.pop("identity layer")
    assert [x.shape for x in given] == [(1, calls.WIDTH)] * 3
    dense = found.pop("Dense each")  # has a kernel of its own
    assert [y.shape for y in dense] == [(1, calls.UNITS)] * 3
    for ys in found.values():
        assert all(map(np.array_equal, ys, found["SharedDense"]))
    assert min(calls.measure(3, rounds=1, budget=1e-4).values()) > 0
