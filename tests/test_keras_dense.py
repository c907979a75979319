"""Keras's own tests of Dense, from the installed Keras, run with SharedDense in Dense's place."""

from __future__ import annotations

import importlib
import types
import unittest
from unittest import mock

import keras
import pytest

import shared_dense as sd
from shared_dense.runtime import paths

# Tests that cannot pass, and why. Each is run too, and must still fail: strike out what passes.
CANNOT_PASS: dict[str, str] = {}


class _Marks:
    """pytest.mark, said in unittest's words: a run by hand looks at those, and ours are strict."""

    def skipif(self, condition, *, reason):
        return unittest.skipIf(condition, reason)

    def __getattr__(self, name):
        return lambda test: test


def _keras_tests() -> types.ModuleType:
    try:
        with mock.patch.object(pytest, "mark", _Marks()):
            return importlib.import_module("keras.src.layers.core.dense_test")
    except ImportError as error:  # a wheel without tests, or a Keras that moved them
        pytest.skip(f"this Keras has no dense_test.py: {error}", allow_module_level=True)


dense_test = _keras_tests()
NAMES = [name for name in dir(dense_test.DenseTest) if name.startswith("test_")]


class _Layers:
    """keras.src.layers, but for Dense."""

    Dense = sd.SharedDense
    _own = dense_test.layers

    def __getattr__(self, name):
        return getattr(self._own, name)


@pytest.fixture(autouse=True)
def _in_the_place_of_dense(monkeypatch):
    monkeypatch.setattr(dense_test, "layers", _Layers())
    # `path` looks at the latest call: not at one of another test.
    monkeypatch.setattr(paths, "_last", None)
    filtering = keras.config.is_traceback_filtering_enabled()
    yield
    if filtering:  # Keras's TestCase turns it off, and leaves it so
        keras.config.enable_traceback_filtering()


def test_the_list_names_tests_that_exist():
    assert set(CANNOT_PASS) <= set(NAMES)
    assert len(NAMES) >= 50  # found, and not renamed away


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_of_keras(path, name):
    test = dense_test.DenseTest(name)
    if name in CANNOT_PASS:
        with pytest.raises(Exception):  # noqa: B017 - whatever it fails with
            test.debug()
        pytest.xfail(CANNOT_PASS[name])
    test.debug()
    taken = paths.last()
    if taken is not None and taken.name not in (path, "keras"):
        # Some end with a layer of a half dtype, for which the op may have no kernel.
        assert "kernel on" in taken.reason
        paths._last = None
