"""Python's tables of activations are those of the core, which follow from core/activation.h.

Python has its own, as the fallback takes no library; docs/design.md says what each is for.
"""

import re

import oracle
import pytest
from fuzz import cases, prelude
from toolchain import ROOT

import shared_dense as sd
from shared_dense import _core
from shared_dense.ops import activations, composition, vectorized

SAVED = _core.activations()


def test_python_has_the_activations_of_the_core_in_their_order():
    assert list(composition.ACTIVATIONS) == list(SAVED)
    assert composition.EXPORTED.keys() == SAVED.keys()


def test_python_knows_which_need_the_pre_activation():
    assert {n for n, saved in SAVED.items() if saved == "pre_activation"} == (
        activations.NEED_PRE_ACTIVATION
    )
    assert [n for n, saved in SAVED.items() if saved == "nothing"] == ["linear"]
    assert {n for n, saved in SAVED.items() if saved == "output"} == vectorized.SLOPES.keys()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(sd.shared_matmul.__doc__, id="docstring"),
        pytest.param((ROOT / "README.md").read_text(), id="README.md"),
    ],
)
def test_a_user_reads_of_every_activation(text):
    (listed,) = re.findall(r"\blinear, relu,[^.;)]*", re.sub(r"\(slope[^)]*\)", "", text))
    assert re.findall(r"\w+", listed) == list(SAVED)


def test_every_activation_has_its_part_in_the_tests():
    assert oracle.ACTIVATIONS.keys() == SAVED.keys()
    assert {*cases.SMOOTH, *cases.KINKED} == SAVED.keys() <= prelude.PLAIN.keys()
