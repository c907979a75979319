"""What compiled code calls trusts nothing that a serialized graph hands to it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import xla_handler_calls as calls


@pytest.fixture(scope="module")
def outcomes():
    """What came of each call, in as few processes as live through them."""
    waiting, found = [*calls.RIGHT, *calls.HOSTILE], {}
    while waiting:
        done = subprocess.run(
            [sys.executable, calls.__file__],
            input=json.dumps(waiting),
            capture_output=True,
            text=True,
            timeout=500,
        )
        seen = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        found |= {outcome["name"]: outcome for outcome in seen}
        if done.returncode == 0:
            break
        assert len(seen) < len(waiting), done.stderr
        died = waiting[len(seen)]
        found[died] = {"died": done.returncode, "stderr": done.stderr[-2000:]}
        waiting = waiting[len(seen) + 1 :]
    return found


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
