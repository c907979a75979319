"""The benchmark measures what it says: right results, the fused baseline, a body that runs."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import tensorflow as tf
from oracle import Oracle

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import contestants, report, timing  # noqa: E402
from bench.shapes import SHAPES, Shape  # noqa: E402

TINY = Shape((3, 1, 5), 33, 7)
NAMES = ["op", "plain", "concat", "xla"]


def bench(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [TINY, Shape((2, 3), 300, 17)], ids=lambda shape: shape.name)
def test_contestants_agree_with_float64(name, shape):
    operands = contestants.make_operands(shape)
    results = contestants.contestants(backward=True)[name](operands)
    n = len(shape.rows)
    oracle = Oracle(
        [x.numpy() for x in operands.xs],
        operands.kernel.numpy(),
        [operands.bias.numpy()],
        ["relu"],
    )
    expected = oracle.backward([dy.numpy() for dy in operands.dys])
    exact = [*oracle.forward(), *expected["dx"], expected["dkernel"], *expected["dbias"]]
    assert len(results) == len(exact) == 2 * n + 2
    for i, (got, want) in enumerate(zip(results, exact, strict=True)):
        want.check(got, f"{name} result {i}")

    forward = contestants.contestants(backward=False)[name](operands)
    assert len(forward) == n
    for got, want in zip(forward, oracle.forward(), strict=True):
        want.check(got, name)


def test_error_sees_a_wrong_result():
    operands = contestants.make_operands(TINY)
    right = contestants.contestants(backward=True)["plain"]

    def wrong(operands):
        *rest, db = right(operands)
        return [*rest, db * 1.01]

    assert contestants.error(right, operands, backward=True) < 1e-5
    assert contestants.error(wrong, operands, backward=True) > 1e-3


def executed(layer, turns):
    """How often each kind of op ran in the loop that is timed, by TensorFlow's own trace."""
    operands = contestants.make_operands(TINY)
    metadata = tf.compat.v1.RunMetadata()
    options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
    settings = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
    rewrite = settings.graph_options.rewrite_options
    for name in timing.SWITCHED_OFF:
        setattr(rewrite, name, rewrite.OFF)
    with tf.Graph().as_default():
        fed = tf.nest.map_structure(
            lambda x: tf.compat.v1.placeholder_with_default(x.numpy(), x.shape), operands
        )
        count = tf.compat.v1.placeholder_with_default(turns, [])
        loop = timing.repeat(layer, 0)(count, fed)
        with tf.compat.v1.Session(config=settings) as session:
            assert session.run(loop, options=options, run_metadata=metadata) == turns
    labels = [
        node.timeline_label
        for device in metadata.step_stats.dev_stats
        for node in device.node_stats
    ]
    return Counter(re.search(r" = (\w+>)?_?(Mkl(Native)?)?(\w+)\(|$", label)[4] for label in labels)


@pytest.mark.parametrize(
    ("name", "in_a_turn"),
    [
        ("op", {"SharedMatMul": 1}),
        ("plain", {"FusedMatMul": 3}),
        ("concat", {"ConcatV2": 1, "FusedMatMul": 1, "SplitV": 1}),
        ("xla", {"PartitionedCall": 1}),
    ],
)
def test_every_turn_runs_and_is_fused(name, in_a_turn):
    """Nothing is removed or taken out of the loop, and no baseline does without its fusion."""
    ran = executed(contestants.contestants(backward=False)[name], turns=4)
    assert {op: ran[op] for op in in_a_turn} == {op: 4 * n for op, n in in_a_turn.items()}
    assert not {"MatMul", "BiasAdd", "Relu"} & ran.keys(), ran


@pytest.mark.parametrize(
    ("name", "in_a_turn"),
    [
        ("op", {"SharedMatMul": 1, "SharedMatMulGrad": 1}),
        # Two gradients per product; plain reuse then adds up three of kernel and three of bias.
        ("plain", {"FusedMatMul": 3, "MatMul": 6, "ReluGrad": 3, "BiasAddGrad": 3, "AddN": 2}),
        ("concat", {"ConcatV2": 2, "FusedMatMul": 1, "MatMul": 2, "ReluGrad": 1, "SplitV": 1}),
        ("xla", {"PartitionedCall": 1}),
    ],
)
def test_every_turn_runs_backward(name, in_a_turn):
    ran = executed(contestants.contestants(backward=True)[name], turns=4)
    assert {op: ran[op] for op in in_a_turn} == {op: 4 * n for op, n in in_a_turn.items()}
    assert not {"BiasAdd", "Relu"} & ran.keys(), ran


def test_ratios_are_of_rounds():
    seconds = {"op": [1.0, 2.0, 4.0], "plain": [2.0, 2.0, 2.0]}
    assert timing.ratios(seconds, "plain") == {"median": 1.0, "q1": 0.75, "q3": 1.5}
    assert timing.microseconds(seconds["op"]) == 2e6


def test_shapes():
    assert Shape((8,) * 8, 1024, 512).name == "8x8 1024->512"
    assert Shape((8,) * 8, 1024, 512).flops(False) == 2 * 64 * 1024 * 512
    assert TINY.name == "3x[3,1,5] 33->7"
    assert len({shape.name for shape in SHAPES}) == len(SHAPES) == 20


def test_command_line(tmp_path):
    out = tmp_path / "a" / "bench.json"
    done = bench("--quick", "--rounds", "1", "--shapes", "17->23", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    found = json.loads(out.read_text())
    assert found["machine"].keys() == {"cpu", "cores", "threads", "isa"}
    assert found["machine"]["threads"] == 2 and found["machine"]["isa"]
    assert found["versions"]["tensorflow"] == tf.__version__
    assert found["rounds"] == 1 and found["limit"]["gflops"] > 0
    assert [row["pass"] for row in found["results"]] == ["forward", "forward+backward"]
    for row in found["results"]:
        assert row["shape"] == "3x16 17->23"
        assert (row["rows"], row["in_features"], row["units"]) == ([16] * 3, 17, 23)
        assert set(row["us"]) == set(NAMES)
        assert set(row["ratio"]) == set(NAMES) - {"op"}
        for ratio in row["ratio"].values():
            assert 0 < ratio["q1"] <= ratio["median"] <= ratio["q3"]
        assert set(row["error"]) == {"op", "plain"}
        # The longest sum, over 17 columns, 23 units or 48 rows, of float32 products.
        assert all(0 < value < 50 * 2.0**-24 * 10 for value in row["error"].values())
        assert row["of_limit"] > 0
    assert set(found["geometric_means"]) == {"forward", "forward+backward"}

    text = done.stdout
    for words in ("Forward\n", "Forward and backward\n", "geometric mean", "losses (!) of 1:"):
        assert words in text
    assert "3x16 17->23" in text and "largest error against float64" in text
    assert report.text(found) in text


def test_command_line_one_pass(tmp_path):
    out = tmp_path / "bench.json"
    arguments = ("--quick", "--rounds", "1", "--shapes", "17->23", "--out", str(out))
    assert bench("--forward", *arguments).returncode == 0
    assert [row["pass"] for row in json.loads(out.read_text())["results"]] == ["forward"]


def test_command_line_names_the_shapes():
    done = bench("--shapes", "no such shape")
    assert done.returncode == 2
    assert "8x8 1024->1024" in done.stderr
