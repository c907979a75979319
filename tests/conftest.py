"""Fixtures: every test of behaviour runs on the op and on the fallback, eager and in a graph."""

from __future__ import annotations

import logging
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# The oracles multiply in NumPy, whose threads spin while they wait.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", os.environ.get("SHARED_DENSE_TEST_GPU", ""))

import numpy as np
import pytest

# Files that take longest, by processor time: begun first, so that no worker is left with one.
LONGEST = (
    "wheel", "cuda_host", "cuda_build", "fuzz", "examples", "saving", "xla_dynamic_ranks",
    "symbolic_calls", "bench_results", "docs", "distribution", "core_aarch64", "cancellation",
    "core_bits", "core", "source",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Sorts the files, for `--dist loadfile --no-loadscope-reorder`; their tests stay in order."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    missing = [name for name in places if not (Path(__file__).parent / name).exists()]
    assert not missing, f"LONGEST names {missing}, which are not there"
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture
def rng(request):
    """Random numbers, the same for the same test on every run."""
    return np.random.default_rng(sum(request.node.name.encode()))


@pytest.fixture(params=["op", "fallback"])
def path(request):
    """Runs the test once on each path, and fails it if another one was taken."""
    import shared_dense as sd
    from shared_dense.runtime import paths

    paths._last = None  # a test that calls nothing is not judged by the one before
    if request.param == "op":
        status = sd.status()
        if not status.available:
            pytest.fail(f"the op is not available: {status.reason}")
        yield "op"
    else:
        with sd.fallback():
            yield "fallback"
    taken = paths.last()
    # Where Keras's own code computes, by design, there are no two paths.
    assert taken is None or taken.name in (request.param, "keras"), f"took {taken}"


@pytest.fixture(params=["eager", "function"])
def run(request):
    """Runs a function of tensors eagerly, or traced as a tf.function."""
    import tensorflow as tf

    return (lambda f: f) if request.param == "eager" else tf.function


@pytest.fixture
def warnings_of_loops():
    """What TensorFlow says when it runs an op in a loop."""
    import tensorflow as tf

    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    tf.get_logger().addHandler(handler)
    yield records
    tf.get_logger().removeHandler(handler)


@pytest.fixture
def at_once(warnings_of_loops):
    """Runs a function, and fails the test where a part of it runs in a loop."""
    import tensorflow as tf
    from graphs import operations_of

    def call(function, *arguments, signature=None, compiled=False):
        traced = tf.function(function, jit_compile=compiled)
        concrete = traced.get_concrete_function(*(signature or arguments))
        types = operations_of(concrete)
        assert not warnings_of_loops
        assert not {"While", "StatelessWhile"} & set(types)
        call.count = types.count
        return concrete(*arguments)

    return call
