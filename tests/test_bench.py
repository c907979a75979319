"""The benchmark measures what it says: right results, the fused baseline, a body that runs."""

import json
import re
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from oracle import Oracle

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import __main__ as command  # noqa: E402
from bench import contestants, machine, medians, report, run, timing  # noqa: E402
from bench.exact import product  # noqa: E402
from bench.limits import Level, Machine  # noqa: E402
from bench.shapes import SHAPES, Shape, parse  # noqa: E402

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


@pytest.mark.parametrize(
    ("name", "jit"), [(n, False) for n in NAMES] + [(n, True) for n in NAMES[:3]]
)
@pytest.mark.parametrize("shape", [TINY, Shape((2, 3), 300, 17)], ids=lambda shape: shape.name)
def test_contestants_agree_with_float64(name, jit, shape):
    operands = contestants.make_operands(shape)
    results = contestants.contestants(backward=True, jit=jit)[name](operands)
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

    forward = contestants.contestants(backward=False, jit=jit)[name](operands)
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
    assert medians.ratios(seconds, "plain") == {"median": 1.0, "q1": 0.75, "q3": 1.5}
    assert medians.ratios(seconds, "op", of="plain")["median"] == 1.0
    assert medians.ratios(seconds, "op", of="plain")["q3"] == 1.5
    assert medians.microseconds(seconds["op"]) == 2e6


def test_shapes():
    assert Shape((8,) * 8, 1024, 512).name == "8x8 1024->512"
    assert Shape((8,) * 8, 1024, 512).flops(False) == 2 * 64 * 1024 * 512
    assert TINY.name == "3x[3,1,5] 33->7"
    assert len({shape.name for shape in SHAPES}) == len(SHAPES) == 20


@pytest.mark.parametrize("shape", [*SHAPES, TINY], ids=lambda shape: shape.name)
def test_a_name_is_read_as_its_shape(shape):
    assert parse(shape.name) == shape


@pytest.mark.parametrize(
    "name", ["", "8 1000->700", "8x3 1000", "3x[1,2] 4->5", "0x3 4->5", "2x0 4->5", "2x3 4->0"]
)
def test_a_name_of_no_shape_is_told(name, capsys):
    with pytest.raises(ValueError, match=r"no shape|has 3 inputs|size of 0"):
        parse(name)
    with pytest.raises(SystemExit):
        command.main(["--also", name])
    assert f"argument --also: {name!r}" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "half"])
def test_operands_have_their_dtype(dtype):
    operands = contestants.make_operands(TINY, dtype)
    assert {x.dtype for x in tf.nest.flatten(operands)} == {tf.as_dtype(dtype)}
    # The same numbers in every dtype, but for rounding; float64 has numbers of its own.
    if dtype != "float64":
        expected = contestants.make_operands(TINY)
        for got, want in zip(tf.nest.flatten(operands), tf.nest.flatten(expected), strict=True):
            np.testing.assert_allclose(np.asarray(got, np.float64), want, rtol=2.0**-8)
    unit = float(np.finfo(tf.as_dtype(dtype).as_numpy_dtype).eps) if dtype != "bfloat16" else 2**-7
    error = contestants.error(contestants.contestants(True)["plain"], operands, backward=True)
    assert 0 < error < 33 * unit


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_to_compare_with_are_exact_to_rounding(dtype):
    """Against fractions, with terms that cancel to a billionth."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 50)), rng.standard_normal((50, 3))
    a[:, 25:], b[25:] = -a[:, :25], b[:25] * (1 + 1e-9)
    a[0] *= 1e-200
    b[7] = 0
    got = product(a, b, dtype)
    wide = np.finfo(got.dtype)
    assert wide.eps < (2**-60 if dtype == "float64" else 2**-50)
    for i, j in np.ndindex(4, 3):
        terms = [Fraction(x) * Fraction(y) for x, y in zip(a[i], b[:, j], strict=True)]
        mantissa, exponent = np.frexp(got[i, j])
        # A long double is a fraction too, but knows no way to become one.
        value = Fraction(int(np.ldexp(mantissa, 120))) * Fraction(2) ** (int(exponent) - 120)
        eps = max(float(wide.eps), 2.0**-60)  # what three slices hold, where long double holds more
        bound = 16 * Fraction(eps) * sum(map(abs, terms))
        assert abs(value - sum(terms)) <= bound


def row(us, floor_us):
    return {"shape": "1x1 1->1", "pass": "forward", "us": us, "floor_us": floor_us}


def test_what_is_faster_than_possible_is_doubtful():
    assert report.doubtful_rows([row({"op": 10.0, "plain": 9.5}, 10.0)]) == []
    found = report.doubtful_rows([row({"op": 10.0, "plain": 9.0}, 10.0)])
    assert found == ["1x1 1->1 forward plain"]


def test_command_line(tmp_path):
    out = tmp_path / "a" / "bench.json"
    arguments = ("--quick", "--rounds", "1", "--shapes", "17->23", "--also", "2x[3,5] 40->30")
    done = bench(*arguments, "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    found = json.loads(out.read_text())
    assert found["machine"].keys() == {"cpu", "cores", "threads", "isa"}
    assert found["machine"]["threads"] == 2 and found["machine"]["isa"]
    assert found["versions"]["tensorflow"] == tf.__version__
    assert found["rounds"] == 1 and found["dtype"] == "float32" and not found["interrupted"]
    assert found["limit"]["gflops"] > 0
    assert [m["threads"] for m in found["limit"]["machines"]] == [1, 2]
    assert [(row["pass"], row["shape"]) for row in found["results"]] == [
        (key, shape)
        for key in ("forward", "forward+backward")
        for shape in ("3x16 17->23", "2x[3,5] 40->30")
    ]
    for row in found["results"]:
        assert parse(row["shape"]) == (tuple(row["rows"]), row["in_features"], row["units"])
        assert set(row["us"]) == set(NAMES)
        assert set(row["ratio"]) == set(NAMES) - {"op"}
        for ratio in row["ratio"].values():
            assert 0 < ratio["q1"] <= ratio["median"] <= ratio["q3"]
        assert set(row["error"]) == {"op", "plain"}
        # The longest sum, over 40 columns, 30 units or 48 rows, of float32 products.
        assert all(0 < value < 50 * 2.0**-24 * 10 for value in row["error"].values())
        assert row["of_limit"] == pytest.approx(row["limit_us"] / row["us"]["op"])
        assert row["limit_us"] >= row["floor_us"] > 0
    assert set(found["geometric_means"]) == {"forward", "forward+backward"}
    assert [(row["threads"], row["shape"]) for row in found["kernel_only"]] == [
        (threads, shape) for threads in (1, 2) for shape in ("3x16 17->23", "2x[3,5] 40->30")
    ]
    for row in found["kernel_only"]:
        assert set(row["us"]) == {"core", "numpy"} and row["ratio"]["numpy"]["median"] > 0
        assert row["of_limit"] == pytest.approx(row["limit_us"] / row["us"]["core"])
        assert row["difference"] < 40 * 2.0**-24 * 10
    assert set(found["memory"]["peak_bytes"]) == {"op", "plain"}

    text = done.stdout
    for words in ("Forward\n", "Forward and backward\n", "geometric mean", "losses (!) of 2:"):
        assert words in text
    for words in (
        "Kernel only, 1 thread:",
        "Kernel only, 2 threads:",
        "Memory of forward",
        "of lim",
    ):
        assert words in text
    assert "3x16 17->23" in text and "largest error against float64" in text
    assert report.text(found) in text


def test_command_line_with_everything_compiled(tmp_path):
    out = tmp_path / "bench.json"
    done = bench("--quick", "--rounds", "1", "--shapes", "17->23", "--jit", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert [set(row["ratio"]) for row in found["results"]] == [{"plain", "concat"}] * 2
    assert not found["kernel_only"] and "memory" not in found
    assert "all compiled by XLA" in done.stdout and "vs XLA" not in done.stdout


def test_the_op_compiled_is_the_op():
    """Not the fallback, which would be plain reuse against itself."""
    layer = contestants.contestants(backward=False, jit=True)["op"]
    text = layer.experimental_get_compiler_ir(contestants.make_operands(TINY))(stage="hlo")
    assert "shared_dense.forward" in text and " dot(" not in text


def test_command_line_one_pass_in_float64(tmp_path):
    out = tmp_path / "bench.json"
    arguments = ("--quick", "--rounds", "1", "--shapes", "17->23", "--out", str(out))
    assert bench("--forward", "--dtype", "float64", *arguments).returncode == 0
    found = json.loads(out.read_text())
    assert found["kernel_only"] == [] and "memory" not in found
    (row,) = found["results"]
    assert row["pass"] == "forward"
    assert 0 < row["error"]["op"] < 17 * 2.0**-53 * 10


def test_command_line_says_where_there_is_no_op():
    from shared_dense import paths

    done = bench("--forward", "--quick", "--rounds", "1", "--shapes", "17->23", "--dtype", "half")
    if "float16" in paths.OP_DTYPES["CPU"]:
        assert done.returncode == 0
    else:
        assert done.returncode == 1
        assert "There is no op to time in half: the op has no float16 kernel on CPU" in done.stderr


def test_command_line_names_the_shapes():
    done = bench("--shapes", "no such shape")
    assert done.returncode == 2
    assert "8x8 1024->1024" in done.stderr


LEVELS = (Level("L2", 2e6, 2e11, 2e11, 2e11), Level("DRAM", float("inf"), 3e10, 3e10, 5e10))
MEASURED = machine.Measured(
    {n: Machine({"float32": n * 1e11, "float64": n * 5e10}, LEVELS) for n in (1, 2)}, "made up", ()
)


@pytest.mark.parametrize("complete", [0, 1])
def test_interruption_keeps_what_is_complete(complete, monkeypatch, tmp_path, capsys):
    real, done = timing.measure, []

    def measure(*arguments):
        if len(done) == complete:
            raise KeyboardInterrupt
        done.append(1)
        return real(*arguments)

    monkeypatch.setattr(timing, "measure", measure)
    monkeypatch.setattr(timing, "prepare", lambda threads: None)  # TensorFlow runs already
    monkeypatch.setattr(machine, "measure", lambda *_: MEASURED)
    for name in ("OPENBLAS_NUM_THREADS", "TF_CPP_MIN_LOG_LEVEL", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "0")  # the command sets them; this puts them back
    out = tmp_path / "bench.json"
    arguments = ["--quick", "--rounds", "1", "--shapes", "17->23", "--also", "1x2 3->4"]
    assert command.main([*arguments, "--out", str(out)]) == command.INTERRUPTED
    found = json.loads(out.read_text())
    assert found["interrupted"]
    assert [row["shape"] for row in found["results"]] == ["3x16 17->23"][:complete]
    text = capsys.readouterr().out
    assert "Interrupted" in text and ("3x16 17->23" in text) == bool(complete)


def test_another_process_that_fails_costs_only_its_part(monkeypatch):
    plan = run.Plan([TINY], ("kernel only",), "float32", 2, 1, 0.001, False, True)
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    found = run.run(plan, MEASURED)
    assert "failed" in found["kernel_only_failed"]
    assert found["kernel_only_failed"] in report.text(found)
