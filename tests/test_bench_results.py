# ruff: noqa: RUF001
"""What the benchmark writes: its layout, its tables, stopping, other processes."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import bench  # noqa: E402
from bench import __main__ as command  # noqa: E402
from bench import load, machine, memory, peers, processes, report, run, shapes  # noqa: E402
from bench import plan as plans  # noqa: E402
from bench.interleaved import LATE  # noqa: E402
from bench.limits import Level, Machine  # noqa: E402
from bench.shapes import Shape, Stack, Workload, parse  # noqa: E402

SAMPLE = ROOT / "tests" / "bench_sample.json"
SKINNY = Workload("skinny", "a use", Shape((1, 2), 33, 700))
OWN = Workload("own", "", Shape((3, 3), 5, 7))
LEVELS = (Level("L2", 2e6, 2e11, 2e11, 2e11), Level("DRAM", None, 3e10, 3e10, 5e10))
MEASURED = machine.Measured(
    {n: Machine({"float32": n * 1e11, "float64": n * 5e10}, LEVELS) for n in (1, 2)},
    (machine.Cache("L2", 1 << 18, 2),),
)


@pytest.fixture
def sample():
    return json.loads(SAMPLE.read_text())


STACK = Stack("own", (3, 2), (8, 7, 5))


def plan(*parts, workloads=(SKINNY, OWN), dtypes=("float32",), jits=(False,), full=False):
    return plans.Plan(workloads, (STACK,), parts, dtypes, jits, 2, 1, 3, 0.005, full)


def test_everything_is_laid_out_as_documented(monkeypatch, sample):
    """A real run of all parts has the fields of the sample, which the documentation names."""
    monkeypatch.setattr(shapes, "grid", lambda: [Workload("grid", "a cell", Shape((2,), 4, 4))])
    monkeypatch.setattr(memory, "INPUTS", (2,))
    monkeypatch.setattr(memory, "CONTESTANTS", ("plain",))
    monkeypatch.setattr(load, "CONTESTANTS", ("op",))
    found = run.Run(plan(*plans.PARTS), MEASURED, ["--made", "up"]).run()
    assert found.keys() == sample.keys()
    for name in found:
        assert re.search(rf"^    .*\b{name}\b", bench.__doc__, re.MULTILINE), name
        if isinstance(found[name], dict) and name != "skipped":
            assert found[name].keys() == sample[name].keys(), name
    for section in run.SECTIONS:
        wanted = {frozenset(row) for row in sample[section]}
        assert {frozenset(row) for row in found[section]} <= wanted, section
        for row in found[section]:
            for name in row:
                assert re.search(rf"\b{name}\b", bench.__doc__), (section, name)
    assert set(found["skipped"]) <= {*peers.LAYERS}
    assert found["command"] == "python -m bench --made up" and not found["interrupted"]

    rows = {(r["shape"], r["pass"], r["threads"], r["kernels"] > 1): r for r in found["results"]}
    skinny, own = SKINNY.shape.name, OWN.shape.name
    assert list(rows) == [
        (skinny, "forward", 1, False), (skinny, "forward", 1, True), (own, "forward", 1, False),
        (own, "forward+backward", 1, False),
        (skinny, "forward", 2, False), (skinny, "forward", 2, True), (own, "forward", 2, False),
        (skinny, "forward+backward", 2, False), (own, "forward+backward", 2, False),
    ]  # fmt: skip
    for row in found["results"]:
        assert parse(row["shape"]) == (tuple(row["rows"]), row["in_features"], row["units"])
        everyone = {"op", "plain", "keras", "concat", "xla", "stack"} - row["skipped"].keys()
        assert row["us"].keys() == everyone and row["ratio"].keys() == everyone - {"op"}
        # Of so small shapes nothing may be left beside the loop, on a busy machine.
        cannot = {name for name, reason in row["skipped"].items() if reason != LATE}
        assert cannot == ({"stack"} if row["shape"] == skinny else set())
        assert row["of_limit"] == pytest.approx(row["limit_us"] / row["us"]["op"]["median"])
        assert row["limit_by"] == "DRAM" or row["kernels"] == 1
        # The longest sum, over 700 units, of float32 products.
        assert all(0 < error < 700 * 2.0**-24 * 10 for error in row["error"].values())
    last = machine.caches()[-1]
    most = 2 * last.size * last.count // (33 * 700 * 4) + 1
    assert 1 < rows[skinny, "forward", 1, True]["kernels"] <= most
    assert {r["shape"] for r in found["eager"]} == {skinny, own}
    assert {(r["model"], r["shape"]) for r in found["models"]} == {("own", "2x[3,2], 8->7->5")}
    assert all(
        r["us"].keys() == r["error"].keys() == {"op", "keras", "layer"} for r in found["eager"]
    )
    assert [r["us"].keys() | r["skipped"].keys() for r in found["grid"]] == [{"op", "plain"}] * 2
    assert [(r["threads"], r["shape"]) for r in found["kernel_only"]] == [
        (threads, shape) for threads in (1, 2) for shape in (skinny, own)
    ]
    assert set(found["load"][0]["seconds"]) == set(sample["load"][0]["seconds"])
    text = report.text(found)
    for words in ("cold weights", "1 thread", "called from Python", "### map", "a cell", "a use"):
        assert words in text
    assert json.loads(report.to_json(found)) == found


def test_results_are_kept_though_a_table_fails(monkeypatch, tmp_path, sample):
    monkeypatch.setattr(machine, "measure", lambda *_: MEASURED)
    monkeypatch.setattr(run.Run, "run", lambda self: sample)
    monkeypatch.setattr(report, "text", lambda found: found["no such table"])
    with pytest.raises(KeyError):
        command.main(["--out", str(tmp_path / "bench.json")])
    assert json.loads((tmp_path / "bench.json").read_text()) == sample


HEAD = {"isa": "", "package": "", "versions": {}, "no_op": {}}


def line(job=None, plain=2.0):
    return {
        "seconds": {"op": [1.0] * 3, "plain": [plain] * 3},
        "skipped": {},
        "kernels": 2 if job and job.cold else 1,
        "error": dict.fromkeys(("op", "plain", "keras", "layer"), 0.0),
    }


def fake_lines(rows, then):
    """Stands in for TensorFlow's process: a head, so many rows, and then an exception."""
    real = processes.lines

    def lines(function, *arguments, **setting):
        if function != "bench.graph.rows":
            yield from real(function, *arguments, **setting)
            return
        yield dict(HEAD)
        yield from map(line, arguments[0][:rows])
        raise then

    return lines


@pytest.mark.parametrize("complete", [0, 1])
def test_interruption_keeps_what_is_complete(complete, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(machine, "measure", lambda *_: MEASURED)
    monkeypatch.setattr(processes, "lines", fake_lines(complete, KeyboardInterrupt()))
    out = tmp_path / "bench.json"
    code = command.main(["--shapes", "middle", "--out", str(out)])
    assert code == command.INTERRUPTED
    found = json.loads(out.read_text())
    assert found["interrupted"]
    assert [row["shape"] for row in found["results"]] == ["2x32 784->128"][:complete]
    text = capsys.readouterr().out
    assert "Interrupted" in text and ("2 × 32, 784 → 128" in text) == bool(complete)


def test_several_runs_are_one_row(monkeypatch):
    """Of the processes that time the same; after Ctrl-C, of those there were."""
    started = []

    def lines(_, jobs, *__, **___):
        started.append(len(jobs))
        yield dict(HEAD)
        for i, _ in enumerate(jobs):
            if len(started) == 3 and i == 1:
                raise KeyboardInterrupt
            yield line(plain=1.0 + len(started))

    monkeypatch.setattr(processes, "lines", lines)
    made = plan("forward+backward")._replace(runs=3, threads=1)
    found = run.Run(made, MEASURED, []).run()
    assert started == [2] * 3 and found["interrupted"] and found["runs"] == 3
    assert [(row["shape"], row["runs"]) for row in found["results"]] == [
        (SKINNY.shape.name, 3), (OWN.shape.name, 2),
    ]  # fmt: skip
    assert [row["ratio"]["plain"] for row in found["results"]] == [
        {"median": 3.0, "low": 2.0, "high": 4.0}, {"median": 2.5, "low": 2.0, "high": 3.0},
    ]  # fmt: skip


def test_who_is_late_in_one_run_takes_no_part():
    late = line() | {"seconds": {"op": [1.0] * 3}}
    row = run.merged([line(), late])
    assert row["us"].keys() == {"op"} and row["skipped"] == {"plain": LATE}


@pytest.mark.parametrize("part", ["eager", "kernel only", "memory", "load", "grid"])
def test_interruption_of_any_part_keeps_the_others(part, monkeypatch):
    made = run.Run(plan("forward", part), MEASURED, [])
    real, done = made._keep, []

    def keep(part, tell):
        if len(done) == 2:  # one and two threads
            raise KeyboardInterrupt
        done.append(part)
        real(part, tell)

    made._keep = keep
    monkeypatch.setattr(processes, "lines", fake_lines(99, RuntimeError("it died")))
    found = made.run()
    assert found["interrupted"] or part == "eager"  # which is no part of its own
    assert len([row for row in found["results"] if row["threads"] == 2]) == 3
    assert found["skipped"]["in the graph, 2 threads"] == "it died"
    assert report.text(found)


def test_another_process_that_fails_costs_only_its_part(monkeypatch):
    made = run.Run(plan("forward", "kernel only", "memory", "load"), MEASURED, [])
    monkeypatch.setattr(processes, "lines", fake_lines(1, RuntimeError("it died")))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    found = made.run()
    assert len(found["results"]) == 2  # one of each number of threads
    assert found["skipped"]["in the graph, 1 thread"] == "it died"
    assert found["skipped"]["load"] == "bench.load.steps failed: no message"
    assert {"in the graph, 2 threads", "kernel only, 1 thread", "memory"} < found["skipped"].keys()
    assert "bench.load.steps failed: no message" in report.text(found)


def test_a_row_that_fails_costs_only_itself(monkeypatch):
    good = processes.tried("this one", lambda text: {"right": int(text)}, "7")
    bad = processes.tried("that one", lambda text: {"right": int(text)}, "seven")
    assert good == {"right": 7} and bad["reason"].startswith("ValueError: invalid literal")
    runs = iter([bad, line()])

    def lines(_, jobs, *__, **___):
        yield dict(HEAD)
        assert len(jobs) == 1
        yield next(runs)

    monkeypatch.setattr(processes, "lines", lines)
    made = plan("forward+backward", workloads=(OWN,))._replace(runs=2, threads=1)
    found = run.Run(made, MEASURED, []).run()
    assert found["skipped"] == {"that one": bad["reason"]}
    assert [row["runs"] for row in found["results"]] == [1]


def test_a_process_that_says_much_is_heard_to_the_end(tmp_path, monkeypatch):
    (tmp_path / "noisy.py").write_text(
        "import sys\n\ndef rows():\n    sys.stderr.write('a warning ' * 50_000)\n    yield {}\n"
        "    sys.exit('it died')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    heard = processes.lines("noisy.rows", threads=1)
    assert next(heard) == {}
    with pytest.raises(RuntimeError, match=r"noisy\.rows failed: .*it died"):
        next(heard)


def test_a_dtype_without_an_op_is_told(monkeypatch, capsys):
    told = HEAD | {"no_op": {"half": "the op has no float16 kernel"}}
    monkeypatch.setattr(machine, "measure", lambda *_: MEASURED)
    monkeypatch.setattr(processes, "lines", lambda *_, **__: iter([told]))
    assert command.main(["--dtype", "half"]) == 1
    assert "no op to time in half: the op has no float16 kernel" in capsys.readouterr().err


def test_why_there_is_no_op():
    import shared_dense as sd
    from bench import graph
    from shared_dense.runtime import paths

    reasons = graph.described(["float32", "half"])["no_op"]
    assert reasons["float32"] == ""
    assert (reasons["half"] == "") == ("float16" in paths.OP_DTYPES["CPU"])
    with sd.fallback():
        assert graph._why_no_op("float32") == sd.status().last_reason != ""


def test_a_package_elsewhere_is_told(sample):
    made = run.Run(plan("forward"), MEASURED, [])
    head = HEAD | {"isa": "avx2"}
    assert made._head(dict(head)) == {} and made.found["machine"]["isa"] == "avx2"
    assert made.found["commit"] == machine.commit()
    made._head(head | {"package": "/opt/shared_dense"})
    assert made.found["commit"] is None and made.found["package"] == "/opt/shared_dense"
    assert "an unknown commit, the package in /opt/shared_dense" in report.text(
        sample | {"package": "/opt/shared_dense"}
    )


def test_tables_of_the_sample(sample):
    text = report.text(sample)
    for words in (
        "detection head, five levels: boxes", "cold weights", "jax: not installed",
        "commit 000000000000", "torch 2.9.0, error at most 1e-07", "16 × 16, 2048 → 2048",
        "| two-tower | 2 × 32, 384 → 512 → 256 |", "| 2.0× ±4% ", "| op    | XLA   | 4.10 s ",
    ):  # fmt: skip
        assert words in text, words
    title = "forward, float32, 2 threads"
    mean, slower = report.sections(sample)[title].splitlines()[-2:]
    assert slower.count("0 of 2 (0)") == 4 and slower.count("0 of 1 (0)") == 1
    assert mean.split("|")[5:8] == [" 1.90×      ", " 2.0×       ", " 1.30×      "]
    torch = report.sections(sample)["other libraries, float32, 2 threads"]
    assert re.search(r"2 × 1, 1024 → 1024 +\| 300 ±\d% +\| \*\*0\.77×\*\* ±\d%", torch)


def test_a_peer_that_is_missing_is_skipped_by_name(monkeypatch):
    monkeypatch.setattr(peers, "LAYERS", {"no_such_library": None})
    monkeypatch.setattr(processes, "lines", lambda *_, **__: iter([dict(HEAD)]))
    found = run.Run(plan("peers"), MEASURED, []).run()
    assert found["peers"] == [] and found["skipped"] == {"no_such_library": "not installed"}
