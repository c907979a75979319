"""Sizes that only the compiled code knows, at every rank: values of `tf.tensordot`, shapes too."""

from __future__ import annotations

import pytest
import xla_dynamic_calls as calls
from isolated import outcomes


@pytest.fixture(scope="module")
def core():
    return outcomes(calls.__file__, calls.NAMES, SHARED_DENSE_XLA="core")


@pytest.fixture(scope="module")
def dot():
    return outcomes(calls.__file__, calls.DOT, SHARED_DENSE_XLA="dot")


@pytest.mark.parametrize("name", calls.NAMES)
def test_the_core(core, name):
    assert core[name].get("wrong") == [], core[name]


@pytest.mark.parametrize("name", calls.DOT)
def test_products_of_xla(dot, name):
    assert dot[name].get("wrong") == [], dot[name]
