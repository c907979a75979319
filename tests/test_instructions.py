"""The core executes no more instructions than bench/instructions.json says, under callgrind."""

from __future__ import annotations

import pytest

from bench import instructions


@pytest.fixture(scope="module")
def program():
    if reason := instructions.missing():
        pytest.skip(reason)
    return instructions.build()


def test_counts_are_those_kept(program):
    kept, found = instructions.load(), instructions.count(program)
    if reason := instructions.differs(kept.conditions, found.conditions):
        pytest.skip(f"counts do not compare: {reason}")

    assert not instructions.compare(kept.counts, found.counts)


def test_a_product_made_twice_is_seen(program):
    """The guard can fail: twice the work, in the program itself."""
    name = "generic bfloat16 dX, 8 x 8 rows, 256 -> 128, gelu"
    once = instructions.count(program, text=name)
    twice = instructions.count(program, calls=2, text=name)

    assert list(once.counts) == list(twice.counts) == [name]
    assert twice.counts[name] == pytest.approx(2 * once.counts[name], rel=0.001)
    [line] = instructions.compare(once.counts, twice.counts)
    for text in (name, f"{once.counts[name]:,}", f"{twice.counts[name]:,}", "slower", "UPDATE=1"):
        assert text in line


@pytest.mark.parametrize(
    ("new", "said"),
    [(1_019, None), (1_021, "slower"), (981, None), (979, "faster")],
)
def test_two_per_cent_either_way(new, said):
    wrong = instructions.compare({"product": 1_000}, {"product": new})

    assert len(wrong) == (said is not None)
    assert all(said in line and "1,000" in line and f"{new:,}" in line for line in wrong)


def test_products_come_and_go_on_purpose_only():
    wrong = instructions.compare({"gone": 5, "same": 5}, {"same": 5, "new": 5})

    assert [line.split(" any more")[0] for line in wrong] == [
        "gone: not counted", "new: not in instructions.json",
    ]  # fmt: skip


def test_another_compiler_is_not_compared():
    kept = instructions.load().conditions

    assert not instructions.differs(kept, dict(kept))
    assert "Clang 99" in instructions.differs(kept, kept | {"compiler": "Clang 99"})


def test_the_command_fails_or_updates(monkeypatch, tmp_path, capsys):
    conditions = {"compiler": "any"}
    monkeypatch.setattr(instructions, "ROOT", tmp_path)
    monkeypatch.setattr(instructions, "KEPT", tmp_path / "kept.json")
    monkeypatch.setattr(instructions, "missing", lambda: "")
    monkeypatch.setattr(instructions, "build", lambda: None)

    def counts(number):
        found = instructions.Counted(conditions, {"product": number})
        monkeypatch.setattr(instructions, "count", lambda program: found)

    counts(1_000)
    assert instructions.main(["--update"]) == 0
    counts(1_100)
    assert instructions.main([]) == 1
    said = capsys.readouterr().out
    assert "product: 1,000 instructions before, 1,100 now (+10.0%): slower" in said
    assert instructions.main(["--update"]) == 0
    assert instructions.main([]) == 0
    conditions["compiler"] = "another"
    counts(9_000)
    assert instructions.main([]) == 0
    assert "Not compared: compiler is 'another' here" in capsys.readouterr().out
