"""The benchmark measures what it says: right results, the fused baseline, a body that runs."""

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
from bench import contestants, interleaved, medians, shapes, timing  # noqa: E402
from bench.exact import product  # noqa: E402
from bench.shapes import WORKLOADS, Shape, parse  # noqa: E402

TINY = Shape((3, 1, 5), 33, 7)
EQUAL = Shape((2, 2, 2), 300, 17)
SHAPES = [workload.shape for workload in WORKLOADS]
NAMES = ["op", "plain", "keras", "concat", "stack", "xla"]


def check(results, operands, backward, name):
    """Outputs, and gradients where there are any, against the oracle's bounds."""
    oracle = Oracle(
        [x.numpy() for x in operands.xs],
        operands.kernel.numpy(),
        [operands.bias.numpy()],
        ["relu"],
    )
    exact = oracle.forward()
    if backward:
        expected = oracle.backward([dy.numpy() for dy in operands.dys])
        exact = [*exact, *expected["dx"], expected["dkernel"], *expected["dbias"]]
    assert len(results) == len(exact)
    for i, (got, want) in enumerate(zip(results, exact, strict=True)):
        want.check(got, f"{name} result {i}")


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("way", ["graph", "jit", "eager"])
@pytest.mark.parametrize("shape", [TINY, EQUAL], ids=lambda shape: shape.name)
def test_contestants_agree_with_float64(way, shape, backward):
    operands = contestants.make_operands(shape)
    if way == "eager":
        layers = contestants.from_python(operands, backward)
        assert set(layers) == {"op", "keras", "layer"}
    else:
        layers = contestants.contestants(backward, jit=way == "jit")
        assert list(layers) == (NAMES if way == "graph" else NAMES[:-1])
    left_out = contestants.skipped(shape)
    assert set(left_out) == ({"stack"} if shape == TINY else set())
    for name, layer in layers.items():
        if name not in left_out:
            run = layer if way == "eager" else tf.function(layer, autograph=False)
            check(run(operands), operands, backward, name)


def test_stack_cannot_have_unequal_rows():
    with pytest.raises(tf.errors.InvalidArgumentError, match="Shapes of all inputs must match"):
        contestants.stack(contestants.make_operands(TINY))


def test_error_sees_a_wrong_result():
    operands = contestants.make_operands(TINY)
    right = contestants.contestants(backward=True)["plain"]

    def wrong(operands):
        *rest, db = right(operands)
        return [*rest, db * 1.01]

    assert contestants.error(right(operands), operands, backward=True) < 1e-5
    assert contestants.error(wrong(operands), operands, backward=True) > 1e-3


def executed(layer, turns, shape=TINY, kernels=0):
    """How often each kind of op ran in the loop that is timed, by TensorFlow's own trace."""
    operands = contestants.make_operands(shape)
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
        first = tf.compat.v1.placeholder_with_default(0, [])
        loop = timing.repeat(layer, 0)(first, count, fed, [fed.kernel + 0.0] * kernels)
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
        ("keras", {"FusedMatMul": 3}),
        ("concat", {"ConcatV2": 1, "FusedMatMul": 1, "SplitV": 1}),
        ("xla", {"PartitionedCall": 1}),
    ],
)
@pytest.mark.parametrize("kernels", [0, 3])
def test_every_turn_runs_and_is_fused(name, in_a_turn, kernels):
    """Nothing is removed or taken out of the loop, and no baseline does without its fusion."""
    ran = executed(contestants.contestants(backward=False)[name], turns=4, kernels=kernels)
    assert {op: ran[op] for op in in_a_turn} == {op: 4 * n for op, n in in_a_turn.items()}
    assert not {"MatMul", "BiasAdd", "Relu"} & ran.keys(), ran


@pytest.mark.parametrize(
    ("name", "in_a_turn"),
    [
        ("op", {"SharedMatMul": 1, "SharedMatMulGrad": 1}),
        # Two gradients per product; plain reuse then adds up three of kernel and three of bias.
        ("plain", {"FusedMatMul": 3, "MatMul": 6, "ReluGrad": 3, "BiasAddGrad": 3, "AddN": 2}),
        ("keras", {"FusedMatMul": 3, "MatMul": 6, "ReluGrad": 3, "AddN": 2}),
        ("concat", {"ConcatV2": 2, "FusedMatMul": 1, "MatMul": 2, "ReluGrad": 1, "SplitV": 1}),
        ("xla", {"PartitionedCall": 1}),
    ],
)
def test_every_turn_runs_backward(name, in_a_turn):
    ran = executed(contestants.contestants(backward=True)[name], turns=4)
    assert {op: ran[op] for op in in_a_turn} == {op: 4 * n for op, n in in_a_turn.items()}
    assert not {"BiasAdd", "Relu"} & ran.keys(), ran


def test_stack_is_one_product():
    ran = executed(contestants.contestants(backward=False)["stack"], turns=4, shape=EQUAL)
    assert ran["Pack"] == ran["Unpack"] == ran["BatchMatMulV2"] == 4, ran


def test_cold_weights_come_in_turn_and_round_again():
    """Calls go on with the kernel where the last one stopped: 1, then 10, 100, 1, 10, then 100."""
    operands = contestants.make_operands(Shape((2,), 3, 4))
    seen = tf.Variable(0.0)

    def layer(own):
        seen.assign_add(own.kernel[2, 3])
        return [own.kernel]

    run = timing.loop(layer, operands, [tf.fill([3, 4], 10.0**k) for k in range(3)], results=1)
    run(4)
    run(1)
    assert seen.numpy() == 222


def test_cold_weights_are_more_than_twice_the_cache_and_distinct():
    kernel = tf.random.normal([16, 8])
    made = timing.copies(kernel, last_cache=1 << 10)
    assert len(made) * 16 * 8 * 4 > 2 << 10 >= (len(made) - 1) * 16 * 8 * 4
    assert len({address(k) for k in (kernel, *made)}) == len(made) + 1
    assert all(np.array_equal(k, kernel) for k in made)


def address(tensor):
    return np.asarray(memoryview(tensor)).ctypes.data


def test_cold_weights_are_not_copied():
    made = timing.copies(tf.random.normal([64, 64]), last_cache=1 << 15)
    read = tf.function(lambda kernels, k: timing.shelf(kernels).read(k), autograph=False)
    for k, kernel in enumerate(made):
        assert address(read(made, tf.constant(k))) == address(kernel)


def test_rounds_take_off_what_surrounds_and_come_in_any_order():
    calls = []

    def run(name, each, fixed=0.0):
        return lambda count: calls.append(name) or fixed + count * each

    runs = {"a": run("a", 0.5), "b": run("b", 0.25)}
    found = interleaved.measure(runs, 50, 2.0, {"b": run("nothing", 0.125)})
    assert found == {"a": [0.5] * 50, "b": [0.125] * 50}
    order = [name for name in calls[-150:] if name != "nothing"]
    rounds = Counter(zip(order[::2], order[1::2], strict=True))
    assert rounds.keys() == {("a", "b"), ("b", "a")} and min(rounds.values()) > 5


def test_the_hopeless_are_left_out_but_never_the_first():
    runs = {
        name: lambda count, each=each: count * each
        for name, each in (("op", 9.0), ("plain", 0.1), ("xla", 1.1), ("stack", 0.9))
    }
    found = interleaved.measure(runs, 2, 0.1, {})
    assert list(found) == ["op", "plain", "stack"]
    quick = {
        name: lambda count, each=each: count * each
        for name, each in (("op", 0.001), ("plain", 0.4))
    }
    assert list(interleaved.measure(quick, 2, 0.1, {})) == ["op", "plain"]


def test_what_took_no_time_is_left_out():
    """Held up, what surrounds a contestant may take longer than all of it."""
    runs = {name: lambda count: 1.0 * count for name in ("op", "plain")}
    held_up = {"plain": lambda count: 2.0 * count}
    assert interleaved.measure(runs, 2, 0.1, held_up) == {"op": [1.0, 1.0]}
    once = iter([2.0, 2.0, *[0.5] * 4])  # held up in the first attempt: it is timed again
    passing = {"plain": lambda count: next(once) * count}
    assert interleaved.measure(runs, 2, 0.1, passing) == {"op": [1.0, 1.0], "plain": [0.5, 0.5]}
    with pytest.raises(RuntimeError, match="op took no longer than what surrounds it, 10 times"):
        interleaved.measure(runs, 2, 0.1, {"op": held_up["plain"]})


def test_what_is_timed(monkeypatch):
    """Each in a loop, with the kernels that come in turn, beside a loop that is empty."""
    monkeypatch.setattr(timing, "loop", lambda *given: given)
    monkeypatch.setattr(interleaved, "measure", lambda *given: given)
    runs, *effort, empty = timing.measure({"op": "a", "plain": "b"}, "xs", ["k", "l"], 3, 5, 0.1)
    assert runs == {"op": ("a", "xs", ["k", "l"], 3), "plain": ("b", "xs", ["k", "l"], 3)}
    assert empty == dict.fromkeys(runs, (None, "xs", ["k", "l"], 3))
    assert effort == [5, 0.1]


def test_tensorflow_is_set_up_for_timing():
    """As the tests of what runs in a turn assume: fusion on, nothing taken out of the loop."""
    program = """
import tensorflow as tf
from bench import timing
timing.prepare(3)
threads = tf.config.threading
print(threads.get_intra_op_parallelism_threads(), threads.get_inter_op_parallelism_threads())
print(sorted(tf.config.optimizer.get_experimental_options().items()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    options = dict.fromkeys(timing.SWITCHED_OFF, False).items()
    told = done.stdout.splitlines()
    assert told[0] == "3 3"
    assert {str(option) for option in options} <= set(re.findall(r"\([^()]*\)", told[1]))
    assert "remapp" not in told[1]


def test_ratios_are_of_rounds():
    runs = [{"op": [1.0, 2.0, 4.0], "plain": [2.0, 2.0, 2.0]}]
    times = medians.times(runs)
    assert times["us"]["op"] == {"median": 2e6, "low": 1.5e6, "high": 3e6}
    assert times["ratio"] == {"plain": {"median": 1.0, "low": 0.75, "high": 1.5}}
    assert medians.times(runs, of="plain")["ratio"].keys() == {"op"}


def test_the_spread_of_several_runs_is_that_between_them():
    """Not between their rounds, which here differ more, nor of rounds of different runs."""
    runs = [
        {"op": [1.0, 2.0, 9.0], "plain": [3.0, 3.0, 9.0], "xla": [1.0] * 3},
        {"op": [3.0, 4.0, 5.0], "plain": [3.0, 4.0, 5.0]},
        {"op": [1.0, 1.0, 1.0], "plain": [5.0, 8.0, 1.0], "xla": [1.0] * 3},
    ]
    times = medians.times(runs)
    assert times["us"]["op"] == {"median": 2e6, "low": 1e6, "high": 4e6}
    assert times["ratio"] == {"plain": {"median": 1.5, "low": 1.0, "high": 5.0}}


def test_shapes():
    assert Shape((8,) * 8, 1024, 512).name == "8x8 1024->512"
    assert Shape((8,) * 8, 1024, 512).flops(False) == 2 * 64 * 1024 * 512
    assert TINY.name == "3x[3,1,5] 33->7"
    assert len({shape.name for shape in SHAPES}) == len(SHAPES) == 20
    assert len({workload.use for workload in WORKLOADS}) == len(WORKLOADS)
    cells = [cell.shape for cell in shapes.grid()]
    assert len(set(cells)) == len(shapes.GRID_INPUTS) * len(shapes.GRID_ROWS)
    assert Shape((256,) * 32, 512, 512) in cells


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
    results = contestants.contestants(True)["plain"](operands)
    error = contestants.error(results, operands, backward=True)
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


def test_the_op_compiled_is_the_op():
    """Not the fallback, which would be plain reuse against itself."""
    layer = contestants.contestants(backward=False, jit=True)["op"]
    text = layer.experimental_get_compiler_ir(contestants.make_operands(TINY))(stage="hlo")
    assert "shared_dense.forward" in text and " dot(" not in text
