"""Some programs of the fuzz harness, and whether it can fail. `make fuzz` runs as many as you like.

What is found is printed as a program; `python -m fuzz --print SEED`, in tests/, gives the whole.
"""

from __future__ import annotations

import itertools
import random
import subprocess

import pytest
import warm
from fuzz import __main__ as driver
from fuzz import cases, compare, faults, program

import shared_dense as sd
from shared_dense.ops import matmul

FIRST, CASES = 0, 1500  # a minute on two cores


def test_random_programs():
    """In processes of their own, which may die."""
    result = driver.run(itertools.count(FIRST), wanted=CASES, jobs=2)

    assert result.total >= CASES
    assert not result.failures, driver.report(result, 1, show=3)
    # Were the bounds too narrow, plain TensorFlow would miss them just as often.
    assert len(result.excused) <= CASES / 100, driver.report(result, 1, show=0)


def outcomes(case, monkeypatch, paths=None):
    """(label, what is wrong, excused) of every evaluation of a case, in this process."""
    found = []
    monkeypatch.setattr(compare, "ended", lambda *outcome: found.append(outcome))
    program.execute(case, paths)
    return found


def small(mode, order, dtype="float64", context=""):
    """A program in which everything matters: two slots of one tensor, a bias, what is chained."""
    names = ("x0", (2, 3)), ("w1", (3, 3)), ("b2", (3,))
    case = cases.Case(7, mode, [order], dtype=dtype, context=context, square=True)
    case.tensors = [cases.Tensor(name, shape) for name, shape in names]
    case.body = [
        "y1, y2, y3 = product([x0, 2 * x0, x0], w1, bias=[b2, None, b2], activation='tanh')",
        "(y4,) = product([y1 + y2], w1, bias=b2)",
        "return [y3, y4]",
    ]
    if mode == "unknown sizes":
        case.signature = [[None, 3], None, [None]]
    if mode == "vectorized":
        case.signature = [True, False, False]
    return case


MODES_AND_ORDERS = [
    (mode, order)
    for mode, (_, _, orders) in cases.MODES.items()
    for order in dict.fromkeys(orders)
    if mode not in ("eager", "forward", "jacobians")
]
MODES_AND_ORDERS += [
    ("eager", order)
    for order in ["outputs", "gradient", "gradient in 0 2", "second", *cases.FORWARD]
]
MODES_AND_ORDERS += [("eager", "jacobian"), ("eager", "hessian"), ("graph", "jvp")]


@pytest.mark.parametrize(("mode", "order"), MODES_AND_ORDERS)
def test_a_wrong_product_is_seen(mode, order, monkeypatch):
    assert not any(wrong for _, wrong, _ in outcomes(small(mode, order), monkeypatch))
    twice = order in ("second", "tf.gradients twice", "hessian")
    wrong = faults.FAULTS["second order" if twice else "outputs"]
    monkeypatch.setattr(sd, "shared_matmul", wrong)
    ((_, wrong, excused),) = outcomes(small(mode, order), monkeypatch)
    assert "off by" in wrong
    assert not excused


@pytest.mark.parametrize("context", ["cond", "while", "recompute"])
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_a_wrong_product_is_seen_inside(mode, context, monkeypatch):
    case = small(mode, "gradient", context=context)
    assert not any(wrong for _, wrong, _ in outcomes(case, monkeypatch, ["op", "fallback"]))
    monkeypatch.setattr(sd, "shared_matmul", faults.FAULTS["outputs"])
    assert all(wrong for _, wrong, _ in outcomes(case, monkeypatch, ["op", "fallback"]))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("fault", faults.FAULTS)
def test_a_fault_is_found_in_a_hundred_programs(fault, dtype, monkeypatch):
    """Of which few have what the fault takes, as two inputs of one shape."""
    monkeypatch.setattr(matmul, "shared_matmul", faults.FAULTS[fault])
    monkeypatch.setattr(sd, "shared_matmul", faults.FAULTS[fault])
    of_dtype = (
        case
        for case in map(cases.draw, itertools.count(100))
        if case.dtype == dtype and case.mode == "eager" and not case.context
    )
    for case in itertools.islice(of_dtype, 100):
        case.orders = ["gradient", "second"]
        if any(wrong and not excused for _, wrong, excused in outcomes(case, monkeypatch)):
            return
    pytest.fail("every program is said to be right")


def test_a_seed_is_a_program():
    texts = [program.text(cases.draw(seed)) for seed in range(300)]
    assert texts == [program.text(cases.draw(seed)) for seed in range(300)]
    assert len(set(texts)) == 300


def test_the_program_that_is_printed_runs(tmp_path):
    """With nothing of the harness at hand; and says what is wrong."""
    case = small("eager", "second")
    for text, status in (
        (program.whole(case), 0),
        (program.whole(case).replace("y1, y2, y3 = p", "y2, y1, y3 = p", 1), 0),
        (program.whole(case).replace("z = z if b is None else z + b", "z = z + 0", 1), 1),
    ):
        path = tmp_path / "program.py"
        path.write_text(text)
        done = subprocess.run([*warm.python(), path], capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        assert ("eager, second, op: result" in done.stderr) == bool(status)


@pytest.mark.parametrize("fault", ["death", "death of all"])
def test_a_process_that_dies_is_a_failure_of_its_seed(fault, monkeypatch):
    """But where plain TensorFlow dies as well it is not ours."""
    monkeypatch.setenv("FUZZ_FAULT", fault)

    result = driver.run([5], jobs=1)

    found = result.excused if fault == "death of all" else result.failures
    assert [seed for seed, _, _ in found] == [5]
    assert "ended with status -6" in found[0][2]
    assert len(result.excused + result.failures) == 1


def test_bias_gradients_that_do_not_cancel_are_seen(monkeypatch):
    """Plain reuse may be a bit off zero itself."""
    monkeypatch.setattr(sd, "shared_matmul", faults.FAULTS["dropped bias"])
    cancelled = [cases.of_cancellation(seed, random.Random(seed)) for seed in range(20)]
    found = [outcome for case in cancelled for outcome in outcomes(case, monkeypatch)]
    assert sum("off by" in (wrong or "") for _, wrong, _ in found) > 10


def test_zeros_for_none_are_seen(monkeypatch):
    """The second output is not looked at: plain reuse has no gradient in its input."""
    case = small("eager", "gradient")
    case.tensors.append(cases.Tensor("x3", (2, 3)))
    case.body = ["y1, y2 = product([x0, x3], w1, bias=b2)", "return [y1]"]
    monkeypatch.setattr(sd, "shared_matmul", faults.OTHERS["zeros for None"])
    ((_, wrong, _),) = outcomes(case, monkeypatch)
    assert "None" in wrong
