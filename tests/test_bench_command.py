"""The command line of the benchmark: what is asked for is timed, and nothing else."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from test_bench_results import MEASURED  # noqa: E402

from bench import __main__ as command  # noqa: E402
from bench import machine, plan, report, run  # noqa: E402
from bench.interleaved import LATE  # noqa: E402
from bench.shapes import STACKS, WORKLOADS  # noqa: E402


def test_full_is_everything_of_everything():
    options = command._options(["--full"])
    wanted = plan.in_the_graph(command._plan(options), 1)
    # On another number of threads the first dtype, not compiled.
    assert {(job.section, job.dtype, job.jit) for job in wanted} == {("results", "float32", False)}
    assert len([job for job in wanted if not job.cold]) == 2 * len(WORKLOADS)
    assert len([job for job in wanted if job.cold]) == 6
    jobs = plan.in_the_graph(command._plan(options), 2)
    assert {(job.dtype, job.jit) for job in jobs} == {
        (dtype, jit) for dtype in ("float32", "bfloat16") for jit in (False, True)
    }
    graph_jobs = [job for job in jobs if job.section == "results"]
    assert len([job for job in graph_jobs if not job.cold]) == 2 * 2 * 2 * len(WORKLOADS)
    assert len([job for job in graph_jobs if job.cold]) == 2 * 6
    assert len([job for job in jobs if job.section == "eager"]) == 2 * 2 * len(WORKLOADS)
    assert "grid" in command._plan(options).parts
    assert "grid" not in command._plan(command._options([])).parts
    plans = [command._plan(command._options(words)) for words in (["--full"], [], ["--runs", "1"])]
    assert [(made.runs, made.rounds) for made in plans] == [(5, 2), (3, 2), (1, 5)]
    forced = command._plan(command._options(["--full", "--dtype", "half", "--jit"]))
    assert forced.dtypes == ("half",) and forced.jits == (True,)


def test_command_line(tmp_path):
    out = tmp_path / "a" / "bench.json"
    arguments = ["--runs", "1", "--only", "forward", "--jit", "--shapes", "none"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments, "--also", "2x[3,5] 40->30", "--out", out],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    found = json.loads(out.read_text())
    row = found["results"][1]
    assert (row["shape"], row["group"], row["jit"]) == ("2x[3,5] 40->30", "own", True)
    assert [row["threads"] for row in found["results"]] == [1, 2]
    late = {name for name, reason in row["skipped"].items() if reason == LATE}
    assert row["ratio"].keys() | late == {"plain", "keras", "concat"}
    assert found["limit"]["machines"][1]["fma"]["float32"] > 0
    assert not any(found[section] for section in run.SECTIONS if section != "results")
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    assert (found["commit"] or {"hash": ""})["hash"] == head
    assert "2 threads, compiled by XLA" in done.stdout and "vs XLA" not in done.stdout
    assert report.text(found) in done.stdout


def test_command_line_names_the_shapes(capsys):
    assert command.main(["--shapes", "no such shape"]) == 2
    said = capsys.readouterr().err
    assert re.search(r"8x8 1024->1024 +middle: multi-crop projection", said)
    assert re.search(r"2x32 384->512->256 +whole model: two-tower", said)


OF_A_SHAPE = [*plan.PASSES, "eager", "kernel only", "peers"]


@pytest.mark.parametrize(
    ("arguments", "shapes", "stacks", "parts"),
    [
        ("", len(WORKLOADS), len(STACKS), [*OF_A_SHAPE, "memory", "load", "models"]),
        ("--shapes skinny", 6, 0, OF_A_SHAPE),
        ("--shapes detection", 2, 1, [*OF_A_SHAPE, "models"]),
        ("--shapes 17->23", 1, 0, OF_A_SHAPE),
        ("--shapes none --also 1x1_1->1", 1, 0, OF_A_SHAPE),
        ("--shapes none --also 2x1_3->2->1", 0, 1, ["models"]),
        ("--shapes none --also 2x1_3->2->1 --also 1x1_1->1", 1, 1, [*OF_A_SHAPE, "models"]),
        ("--shapes none --also 1x1_1->1 --only forward", 1, 0, ["forward"]),
        ("--shapes none --also 1x1_1->1 --jit", 1, 0, list(plan.PASSES)),
        ("--only models --also 2x1_3->2->1", len(WORKLOADS), len(STACKS) + 1, ["models"]),
        ("--only memory", len(WORKLOADS), len(STACKS), ["memory"]),
    ],
)  # fmt: skip
def test_what_is_asked_for_is_timed_and_nothing_else(arguments, shapes, stacks, parts, monkeypatch):
    monkeypatch.setattr(machine, "measure", lambda *_: MEASURED)
    chosen = []
    monkeypatch.setattr(run, "Run", lambda plan, *_: chosen.append(plan) or FakeRun())
    words = [word.replace("_", " ") for word in arguments.split()]
    assert command.main(words) == command.INTERRUPTED
    (found,) = chosen
    assert (len(found.workloads), len(found.stacks)) == (shapes, stacks)
    assert [*found.parts] == parts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--also 2x1_3->2->1 --only forward", "'2x1 3->2->1': forward times no stack of layers"),
        ("--also 2x1_3->2->1 --jit", "'2x1 3->2->1': --jit times no stack of layers"),
        ("--also 2x1_3->2->1 --dtype half", "a stack is timed in float32, not half"),
        ("--also 2x1_3->2 --only models", "'2x1 3->2': models times no shape of one layer"),
        ("--threads 100000", "--threads 100000: this process may run on"),
        ("--also 2x1_3", "'2x1 3' is no shape; write '8x3 1000->700'"),
        ("--also 2x1_3->0->2", "has a size of 0"),
    ],
)
def test_what_cannot_be_timed_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main([word.replace("_", " ") for word in arguments.split()])
    assert message in capsys.readouterr().err


class FakeRun:
    def run(self):
        raise KeyboardInterrupt
