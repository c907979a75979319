"""A number in a graph that says how long a list is, and lies.

TensorFlow makes a list of types of that length before it looks at the inputs or asks us: for its
own ops as for ours. An attribute has a minimum but no maximum, so nothing of ours can come first.
What we add to it is nothing, and that is what is compared here.
"""

from __future__ import annotations

import json
import subprocess

import huge_lists
import pytest
import warm

FORWARD, BACKWARD = "SharedDense>SharedMatMul", "SharedDense>SharedMatMulGrad"
LENGTH = 4_000_000
# Ours, TensorFlow's own op with as many inputs and outputs, and what is said of ours.
PAIRS = [
    (FORWARD, "N", ("ShapeN", "N"), "NodeDef expected inputs"),
    (FORWARD, "B", ("AddN", "N"), "NodeDef expected inputs"),
    (FORWARD, "num_pre_activations", ("Unpack", "num"), "must be 0 or the number of inputs (1)"),
    (BACKWARD, "N", ("DynamicStitch", "N"), "NodeDef expected inputs"),
    (BACKWARD, "B", ("AddN", "N"), "NodeDef expected inputs"),
    (BACKWARD, "num_saved", ("AddN", "N"), "NodeDef expected inputs"),
    (BACKWARD, "num_input_grads", ("Unpack", "num"), "num_input_grads = 4000000"),
    (BACKWARD, "num_kernel_grads", ("Unpack", "num"), "num_kernel_grads must be 0 or 1"),
    (BACKWARD, "num_bias_grads", ("Unpack", "num"), "num_bias_grads 0 or the number of biases (0)"),
]
STOCK = sorted({stock for _, _, stock, _ in PAIRS})
OURS = [(kind, attribute) for kind, attribute, _, _ in PAIRS]


@pytest.fixture(scope="module")
def imports():
    """What came of each import, by op, attribute and number."""
    asked = [(*what, LENGTH) for what in [*STOCK, *OURS]] + [(*what, 2**40) for what in OURS]
    asked += [(FORWARD, "N", 1), (BACKWARD, "N", 1)]
    done = subprocess.run(
        [*warm.python(), huge_lists.__file__, *(str(word) for what in asked for word in what)],
        capture_output=True,
        text=True,
        timeout=500,
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == len(asked), done.stderr
    return {(f["kind"], f["attribute"], f["number"]): f for f in found}


@pytest.mark.parametrize("kind", [FORWARD, BACKWARD])
def test_the_node_imports_with_the_number_it_has(imports, kind):
    assert imports[kind, "N", 1]["said"] == "imported"


@pytest.mark.parametrize(
    ("kind", "attribute", "stock", "said"),
    [pytest.param(*pair, id=f"{pair[0].split('>')[1]} {pair[1]}") for pair in PAIRS],
)
def test_a_huge_number_costs_what_it_costs_any_op(imports, kind, attribute, stock, said):
    ours, theirs = imports[kind, attribute, LENGTH], imports[(*stock, LENGTH)]
    assert said in ours["said"]
    # One byte more per entry would be 4 MB.
    assert ours["bytes"] < theirs["bytes"] + 4e6
    # The list is there in both, at 4 bytes an entry: the comparison is one.
    assert theirs["bytes"] > 4 * LENGTH


@pytest.mark.parametrize(("kind", "attribute"), OURS)
def test_a_number_past_32_bits_costs_nothing(imports, kind, attribute):
    found = imports[kind, attribute, 2**40]
    assert "too big" in found["said"]
    assert found["bytes"] < imports[kind, "N", 1]["bytes"] + 4e6
