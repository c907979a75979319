"""The benchmark on a GPU without one: what it makes of figures, and its command line."""

from __future__ import annotations

import json
import stat

import pytest

from bench.cuda import __main__ as command
from bench.cuda import build, report, targets
from bench.cuda.cases import CASES, LARGE, MANY_SMALL, SKINNY, Case
from bench.shapes import Shape

LIMITS = {"copy_bytes_per_s": 2e12, "gemm_flops": {"bfloat16": 6e14}}


def row(ours, others=None, *, right=True, scratch=0, **more):
    """As `measure` writes it: three rounds, whose median is the figure given."""
    us = {"ours": (ours, ours), **(others or {})}
    return {
        "right": right,
        "error": {name: {"relative": 1e-3, "of_bound": 0.5} for name in us},
        "us": {
            f"{name} {cache}": [1e9, value, value / 2]
            for name, pair in us.items()
            for cache, value in zip(("cold", "warm"), pair, strict=True)
        },
        "scratch_bytes": scratch,
        "late": 0,
        **more,
    }


def verdict(rows, target, wanted=""):
    found = [v for v in targets.judge(rows, LIMITS) if v.target == target and v.case in rows]
    (only,) = [v for v in found if wanted in v.wanted]
    return only


def test_figures_are_medians():
    assert targets.medians(row(7.0)) == {"ours cold": 7.0, "ours warm": 7.0}


@pytest.mark.parametrize(("part", "met"), [(0.81, True), (0.79, False)])
def test_few_rows_are_judged_by_bandwidth(part, met):
    case = Case(SKINNY[3])
    moved = 2 * (4096 * 4096 + 16 * (4096 + 4096) + 4096)
    assert case.bytes_moved == moved
    found = verdict({case.name: row(moved / (part * 2e12) * 1e6)}, "few rows")
    assert (found.met, found.got) == (met, f"{part:.2f}")


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(
    ("cold", "warm", "met"), [(31, 31, True), (29, 31, False), (31, 29, False)]
)
def test_the_worse_of_cold_and_warm_counts(cold, warm, met, backward):
    case = Case(MANY_SMALL, backward=backward)
    found = verdict({case.name: row(10, {"separate": (cold, warm)})}, "many small", ">= 3 x")
    assert found.met is met
    found = verdict({case.name: row(10, {"concat": (cold - 17, warm - 17)})}, "many small", "1.3")
    assert found.met is met


def test_large_is_judged_by_the_fastest_way():
    case = Case(LARGE)
    ways = {"separate": (100, 100), "concat": (120, 120), "gemm": (96, 96)}
    assert verdict({case.name: row(100, ways)}, "large").met
    ways["gemm"] = (94, 94)
    found = verdict({case.name: row(100, ways)}, "large")
    assert (found.met, found.got) == (False, "0.94")


@pytest.mark.parametrize(("dkernels", "met"), [(0, True), (0.9, True), (1, False), (2, False)])
def test_memory_is_less_than_a_second_dkernel(dkernels, met):
    case = Case(LARGE, backward=True)
    assert case.dkernel_bytes == 2 * 4096 * 4096
    found = verdict({case.name: row(1, scratch=int(dkernels * case.dkernel_bytes))}, "memory")
    assert found.met is met


def test_what_is_not_known_is_not_met():
    case = Case(LARGE)
    missing = verdict({case.name: row(1, skipped="cuBLASLt: not there")}, "large")
    assert (missing.met, missing.why) == (None, "cuBLASLt: not there")
    wrong = {**row(1, right=False), "us": {}}
    assert verdict({case.name: wrong}, "large")[4:] == (False, "wrong results")
    assert {v.met for v in targets.judge({}, LIMITS)} == {None}
    assert {v.case for v in targets.judge({}, LIMITS)} <= {case.name for case in CASES}


def test_bytes_and_operations_of_a_backward_case():
    case = Case(Shape((2, 3), 7, 11), "float32", backward=True)
    x, y, w = 5 * 7, 5 * 11, 7 * 11
    assert case.bytes_moved == 4 * (x + y + w + x + w)
    assert case.flops == 2 * 2 * 5 * 7 * 11
    assert case.argument == "float32,backward,7,11,2,3"


def test_every_case_has_a_name_that_is_read_as_itself():
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert command._case(case.name) == case


LINES = [
    {"device": {"name": "NVIDIA Made Up", "driver_cuda": "12.4"}},
    LIMITS,
    {"case": Case(MANY_SMALL).argument, **row(10, {"separate": (35, 35), "concat": (11, 11)})},
    {"case": Case(SKINNY[0]).argument, **row(1, right=False), "us": {}, "late": 3},
]


def program(folder, lines, status):
    made = folder / "measure"
    text = "\n".join(map(json.dumps, lines))
    made.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {status}\n")
    made.chmod(made.stat().st_mode | stat.S_IXUSR)
    return made


def run(folder, lines, status, *only):
    out = folder / "a" / "bench.json"
    made = program(folder, lines, status)
    code = command.main([*only, "--program", str(made), "--out", str(out)])
    return code, json.loads(out.read_text())


def test_command_line(tmp_path, capsys):
    also = ("--only", "none", "--also", Case(MANY_SMALL).name)
    code, found = run(tmp_path, LINES[:3], 0, *also)
    assert code == 0
    assert found["device"]["name"] == "NVIDIA Made Up" and found["limits"] == LIMITS
    assert found["commit"] and found["rounds"] == command.ROUNDS and "driver" in found
    assert found["cases"][Case(MANY_SMALL).name]["us"]["ours cold"] == [1e9, 10, 5]
    met = {(t["target"], t["wanted"]): t["met"] for t in found["targets"] if t["met"] is not None}
    assert met == {
        ("many small", ">= 3 x N calls of cuBLASLt"): True,
        ("many small", ">= 1.3 x concat, cuBLASLt, split"): False,
    }
    text = capsys.readouterr().out
    (line,) = [t for t in text.splitlines() if t.startswith(f"| {Case(MANY_SMALL).name}")]
    assert line.replace("|", "").split()[-11:] == [
        *("10.0", "3.50", "1.10", "-"), *("10.0", "3.50", "1.10", "-"),
        *(f"{(64 * 16 * 2048 + 1024 * 1025) * 2 / 10e-6 / 1e9:.0f}", "214.7", "1e-03/1e-03"),
    ]  # fmt: skip
    last = text[text.index("| target") :]
    assert last.count("met") == 1 and last.count("MISSED") == 1


def test_wrong_results_and_missing_cases_fail(tmp_path, capsys):
    names = [Case(MANY_SMALL).name, Case(SKINNY[0]).name]
    also = ("--only", "none", "--also", names[0], "--also", names[1])
    assert run(tmp_path, LINES, 1, *also)[0] == 1
    said = capsys.readouterr()
    assert "WRONG" in said.out and "3 times hold the host's launches" in said.out
    assert run(tmp_path, LINES[:3], 0, *also)[0] == 1
    assert "after 1 of 2 cases" in capsys.readouterr().err


def test_without_nvcc_it_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("SHARED_DENSE_NVCC", raising=False)
    monkeypatch.setattr(build.shutil, "which", lambda *_, **__: None)
    assert command.main(["--out", str(tmp_path / "b.json")]) == 1
    assert "pip install nvidia-cuda-nvcc nvidia-cuda-runtime" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "8x3 1000->700", "8x3 1000->700 int8", "8x 1->1 float32"])
def test_a_name_of_no_case_is_told(name, capsys):
    with pytest.raises(SystemExit):
        command.main(["--also", name])
    assert "argument --also" in capsys.readouterr().err


def test_cases_are_named_where_none_fits(capsys):
    assert command.main(["--only", "no such case"]) == 2
    assert Case(LARGE).name in capsys.readouterr().err


def test_what_was_not_measured_is_said():
    case = Case(MANY_SMALL)
    rows = {case.name: row(10, skipped="cuBLASLt: not there")}
    found = {"device": {}, "driver": "", "commit": "", "nvcc": "", "rounds": 3}
    text = report.text(found | {"limits": LIMITS, "cases": rows}, [case], [])
    assert "not measured: cuBLASLt: not there" in text
