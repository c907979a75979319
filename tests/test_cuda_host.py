"""csrc/cuda without a GPU: its kernels, compiled for the host, against the float64 oracle.

tests/cuda/host_shim.h and host_sm90.h are the device: threads, barriers, asynchronous copies and
the tensor-core instructions with the layouts of the PTX ISA. What they cannot show is what real
hardware does: no kernel has run on a GPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import test_core
from toolchain import LAUNCHER, ROOT, find, output

SOURCES = [
    *sorted((ROOT / "csrc/cuda").glob("*.cu")),
    *sorted((ROOT / "csrc/cuda").glob("*.cc")),
    ROOT / "csrc/core/reference.cc",
]
FLAGS = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-psabi"]
INCLUDES = ["-I", ROOT / "csrc", "-I", ROOT / "tests/cuda"]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The folder of the programs over csrc/cuda: check and measure."""
    compiler = find("g++")
    folder = tmp_path_factory.mktemp("cuda")

    def compiled(source):
        built = folder / f"{source.name}.o"
        output(LAUNCHER, compiler, *FLAGS, *INCLUDES, "-x", "c++", "-c", source, "-o", built)
        return built

    mains = [ROOT / "tests/cuda/check.cc", ROOT / "bench/cuda/measure.cc"]
    with ThreadPoolExecutor(2) as pool:
        *objects, check, measure = pool.map(compiled, [*SOURCES, *mains])
    output(compiler, *objects, check, "-o", folder / "check")
    output(compiler, *objects, measure, "-ldl", "-o", folder / "measure")
    return folder


@pytest.fixture(scope="module")
def check(programs):
    """The program tests/cuda/check.cc, as a function of its arguments that gives its output."""

    def run(*arguments, given=""):
        command = [programs / "check", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    return run


CHECKS = [
    *("float32", "tf32", "float64", "bfloat16", "float16", "bfloat16-sm90", "float16-sm90"),
    *("float32-large", "tf32-large", "float64-large", "bfloat16-large", "float16-large"),
    "bfloat16-sm90-large",
]


@pytest.mark.parametrize("name", CHECKS)
def test_products_match_the_oracle(check, name):
    """Values within derived bounds; bits alone, in company, off alignment and on repeat.

    sm90: on a device of compute capability 9.0, whose half types take wgmma.
    """
    code, text = check(name)
    assert f"{name.removesuffix('-large')}: " in text, f"nothing was checked: {text}"
    assert code == 0, text


def test_the_sizes_of_the_cpu(check):
    """Those of tests/test_core.py that the host's device is done with in time."""
    sizes = output(sys.executable, ROOT / "tests/cuda/sizes.py", 2_000_000)
    everything = output(sys.executable, ROOT / "tests/cuda/sizes.py").splitlines()
    assert len(everything) == len(
        test_core.SIZES
        + test_core.EMPTY
        + test_core.PARALLEL
        + test_core.STREAM
        + test_core.MANY_ROWS
    )
    count = 2 * len(sizes.splitlines())
    code, text = check("--sizes", "tf32", "bfloat16", "float64", given=sizes)
    assert code == 0, text
    assert text.count(f"{count} cases of the CPU's sizes") == 3 and count > 50


@pytest.mark.parametrize(
    "case",
    [
        "8x3 100->72 bfloat16",
        "3x5 40->64 float32 backward",
        "2x[3,20] 64->70 tf32",
        "2x[9,20] 64->70 float64 backward",
        "2x[3,20] 70->66 float16 backward",
    ],
)
def test_the_benchmark_checks_and_times(programs, case, tmp_path, capsys):
    """All of it but events and cuBLASLt, which need a device."""
    from bench.cuda import __main__ as command

    out = tmp_path / "bench.json"
    options = ["--program", str(programs / "measure"), "--rounds", "2", "--out", str(out)]
    assert command.main(["--only", "none", "--also", case, *options]) == 0, capsys.readouterr()
    row = json.loads(out.read_text())["cases"][case]
    assert row["right"] and row["error"]["ours"]["of_bound"] <= 1
    assert len(row["us"]["ours cold"]) == len(row["us"]["ours warm"]) == 2
    assert "cublasLt.h" in row["skipped"]


def test_nothing_is_copied_from_the_host():
    """Tables travel in kernels' parameters: a copy from memory that goes would be too late in a
    captured graph, and wait in any other."""
    found = [
        path.name
        for path in sorted((ROOT / "csrc/cuda").iterdir())
        if "cudaMemcpy" in path.read_text()
    ]
    assert not found


def test_the_plan_covers_everything_once(tmp_path):
    built = tmp_path / "plan"
    output(
        find("g++"), *FLAGS, *INCLUDES, ROOT / "tests/cuda/plan.cc", ROOT / "csrc/cuda/plan.cc",
        "-o", built,
    )  # fmt: skip
    assert output(built) == "all checks passed\n"
