"""What compiled code calls trusts nothing that a serialized graph hands to it."""

from __future__ import annotations

import isolated
import numpy as np
import pytest
import xla_handler_calls as calls


@pytest.fixture(scope="module")
def outcomes():
    return isolated.outcomes(calls.__file__, [*calls.RIGHT, *calls.HOSTILE])


@pytest.mark.parametrize("name", calls.RIGHT)
def test_a_right_call(outcomes, name):
    """Whole numbers, small enough to be exact in every type."""
    outcome = outcomes[name]
    assert "values" in outcome, outcome
    wanted = calls.RIGHT[name]["results"]
    for i, (got, right) in enumerate(zip(outcome["values"], wanted, strict=True)):
        np.testing.assert_array_equal(np.reshape(got, right.shape), right, err_msg=f"result {i}")


@pytest.mark.parametrize("name", calls.HOSTILE)
def test_a_hostile_call(outcomes, name):
    case, said = calls.HOSTILE[name]
    outcome = outcomes[name]
    assert outcome.get("error") == "InvalidArgumentError", outcome
    op = "SharedMatMulGrad:" if case["target"] == "shared_dense.backward" else "SharedMatMul:"
    for text in [op, *said]:
        assert text in outcome["message"]
