"""The plan in words: it says what the plan says, and is printed once a shape."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import warm

import shared_dense as sd
from shared_dense import _core

SHAPES = [
    ([1, 1], 1024, 1024),
    ([8] * 8, 1024, 1024),
    ([1024, 1024], 1024, 1024),
    ([300, 75], 67, 3),
    ([300, 75], 67, 21),
    ([1500, 700], 384, 37),
    ([4000, 1700], 61, 37),
    ([0], 4, 3),
    ([2], 0, 5),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_line_per_product(shape, transpose, dtype):
    text = sd.status().plan(*shape, dtype=dtype, transpose_kernel=transpose, threads=2)
    assert [line.partition(":")[0] for line in text.splitlines()] == [
        "forward",
        "input gradient",
        "kernel gradient",
        "against a Dense per input",
    ]


@pytest.mark.skipif(_core.isa() != "avx512", reason="the sizes of its micro-kernel")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [s for s in SHAPES if sum(s[0]) * s[1]], ids=str)
def test_it_is_the_plan(shape, threads, monkeypatch):
    """Forward: path, depth and workers are those of plan_rows for this machine's caches."""
    rows, k, u = shape
    total = sum(rows)
    plan = _core.plan_rows(
        total, k, u, total // len(rows), False, 14, 32, 16, 4, *_core.caches(), threads, 5 << 20
    )
    line = _core.explain(rows, k, u, threads=threads).splitlines()[0]
    assert line.startswith(f"forward: {plan['path']} (")
    assert f"depth {plan['depth']}," in line
    assert line.endswith("2 threads") == plan["parallel"]
    assert ("a copy of the packed kernel for each of" in line) == plan["own_copies"]
    if threads == 1:
        assert line.endswith("one thread, having no other")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([], 4, 3), "rows is empty"),
        (([2, -1], 4, 3), r"rows\[1\] must be an integer >= 0, got -1"),
        (([2], 4.0, 3), "in_features must be an integer >= 0, got 4.0"),
        (([2], 4, None), "units must be an integer >= 0, got None"),
        (([2], 4, 3, "int8"), "dtype 'int8' has no kernels; those that have: float32"),
        ((8, 4, 3), "rows is 8; pass a list"),
        (([(8, 4)], 4, 3), "product of its leading axes"),
        (([2], 4, 3, "float32", False, 0), "threads must be an integer >= 1, got 0"),
    ],
)
def test_bad_arguments(arguments, said):
    with pytest.raises(ValueError, match=said):
        sd.status().plan(*arguments)


PROGRAM = """
import tensorflow as tf, shared_dense as sd
kernel = tf.Variable(tf.ones([4, 3]))
for rows in (2, 2, 5):
    with tf.GradientTape() as tape:
        ys = sd.shared_matmul([tf.ones([rows, 4])] * 2, kernel)
        loss = tf.add_n([tf.reduce_sum(y) for y in ys])
    tape.gradient(loss, kernel)
"""


@pytest.mark.parametrize("value", ["1", "0", None])
def test_verbose_says_every_new_shape_once(value):
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    env.pop("SHARED_DENSE_VERBOSE", None)
    if value is not None:
        env["SHARED_DENSE_VERBOSE"] = value
    done = subprocess.run(
        [*warm.python(), "-c", PROGRAM], env=env, capture_output=True, text=True, check=True
    )
    said = [line for line in done.stderr.splitlines() if line.startswith("shared_dense: ")]
    if value != "1":
        assert not said
        return
    assert said == [
        f"shared_dense: {op} float, rows {rows}+{rows}, 4 -> 3{wanted}"
        for rows in (2, 5)
        for op, wanted in (("SharedMatMul", ""), ("SharedMatMulGrad", ", for the kernel"))
    ]
    lines = done.stderr.splitlines()
    first = lines.index(said[0])
    assert lines[first + 1].startswith("  forward: ")
    # The inputs are constants: their gradient was not asked for, and is not explained.
    assert lines[lines.index(said[1]) + 1].startswith("  kernel gradient: ")
    assert "input gradient" not in done.stderr


def test_threads_of_tensorflow_are_the_default():
    here = len(os.sched_getaffinity(0))
    by_default, asked = (
        sd.status().plan([64], 512, 512, threads=threads).splitlines()[:-1]
        for threads in (None, here)
    )
    assert by_default == asked


def test_numpy_sizes_are_refused_by_name():
    with pytest.raises(ValueError, match="units must be an integer"):
        sd.status().plan([2], 4, np.float32(3))


def test_the_module_refuses_no_threads():
    with pytest.raises(ValueError, match="threads must be at least 1"):
        _core.explain([32], 1024, 1024, threads=0)


@pytest.mark.parametrize("dtype", [tf.bfloat16, np.float64, np.dtype("float16")], ids=str)
def test_dtypes_of_both_libraries_are_taken(dtype):
    name = tf.as_dtype(dtype).name
    assert sd.status().plan([8], 64, 64, dtype) == sd.status().plan(
        [8], 64, 64, name.replace("half", "float16")
    )


@pytest.mark.parametrize(
    "rows, units, expected",
    [
        ([64], 64, "about the same: one input"),
        ([1] * 8, 1024, "faster: reading"),
        ([16, 16], 128, "somewhat faster"),
        ([1000, 2000], 1, "somewhat faster"),
        ([1024, 1024], 1024, "about the same, it may lose"),
    ],
)
def test_it_says_what_to_expect(rows, units, expected):
    """And how to measure it, in words that the benchmark takes."""
    from bench import shapes

    line = sd.status().plan(rows, 64, units).splitlines()[-1]
    assert line.startswith(f"against a Dense per input: {expected}")
    assert shapes.parse(line.partition("--also '")[2].rstrip("'")).rows == tuple(rows)


@pytest.mark.parametrize(
    "options, asked",
    [
        ({}, "--shapes none --also '128x1 64->32'"),
        ({"dtype": "float64"}, "--dtype float64 --shapes none --also '128x1 64->32'"),
        ({"dtype": "float16"}, "--dtype half --shapes none --also '128x1 64->32'"),
        ({"threads": 1}, "--threads 1 --shapes none --also '128x1 64->32'"),
    ],
)
def test_it_says_how_to_measure_that_very_call(options, asked):
    from bench import __main__ as command

    line = sd.status().plan([1] * 128, 64, 32, **options).splitlines()[-1]
    assert line.endswith(f"; measure with python -m bench {asked}")
    found = command._options(shlex.split(asked))
    assert found.also[0].rows == (1,) * 128


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_it_says_is_what_was_measured(dtype):
    """For every shape of the benchmark, by the medians that docs/benchmarks.md shows."""
    found = json.loads((Path(__file__).parent.parent / "docs" / "benchmarks.json").read_text())
    ratios = {}
    for row in found["results"]:
        if (row["dtype"], row["threads"], row["jit"], row["kernels"]) == (dtype, 2, False, 1):
            ratio = row["ratio"]["plain"]["median"]
            ratios.setdefault((*row["rows"], row["in_features"], row["units"]), []).append(ratio)
    assert len(ratios) == 20
    said = set()
    for (*rows, in_features, units), both in ratios.items():
        line = sd.status().plan(rows, in_features, units, dtype).splitlines()[-1]
        word = line.partition(": ")[2].partition(":")[0].partition(",")[0]
        said.add(word)
        if word == "faster":
            assert min(both) > 1.2, line
        elif word == "somewhat faster":
            assert max(both) > 1.2, line
        elif word == "slower":
            assert max(both) < 1.3 and min(both) < 1.1, line
        else:
            assert word == "about the same" and min(both) > 0.7 and max(both) < 1.6, line
    assert len(said) == (3 if dtype == "float32" else 2)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_of_what_was_not_measured_it_says_so(dtype):
    line = sd.status().plan([1] * 8, 64, 32, dtype).splitlines()[-1]
    assert f"unknown: the benchmark that is kept has no {dtype}; measure with" in line


def test_sizes_that_take_no_time_are_not_to_be_measured():
    assert "bench" not in sd.status().plan([2, 0], 4, 3)
