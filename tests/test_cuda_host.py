"""csrc/cuda without a GPU: its kernels, compiled for the host, against the float64 oracle.

tests/cuda/host_shim.h and host_sm90.h are the device: threads, barriers, asynchronous copies and
the tensor-core instructions with the layouts of the PTX ISA. What they cannot show is what real
hardware does: no kernel has run on a GPU.
"""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from toolchain import ROOT, find, output

SOURCES = [
    *sorted((ROOT / "csrc/cuda").glob("*.cu")),
    ROOT / "csrc/cuda/plan.cc",
    ROOT / "csrc/core/reference.cc",
]
FLAGS = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-psabi"]
INCLUDES = ["-I", ROOT / "csrc", "-I", ROOT / "tests/cuda"]


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """The program tests/cuda/check.cc, as a function of its arguments that gives its output."""
    compiler = find("g++")
    folder = tmp_path_factory.mktemp("cuda")

    def compiled(source):
        built = folder / f"{source.name}.o"
        output(compiler, *FLAGS, *INCLUDES, "-x", "c++", "-c", source, "-o", built)
        return built

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, [*SOURCES, ROOT / "tests/cuda/check.cc"]))
    output(compiler, *objects, "-o", folder / "check")

    def run(*arguments):
        done = subprocess.run([folder / "check", *arguments], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    return run


CHECKS = [
    *("float32", "float64", "bfloat16", "float16", "bfloat16-sm90", "float16-sm90"),
    *("float32-large", "float64-large", "bfloat16-large", "float16-large", "bfloat16-sm90-large"),
]


@pytest.mark.parametrize("name", CHECKS)
def test_products_match_the_oracle(check, name):
    """Values within derived bounds; bits alone, in company, off alignment and on repeat.

    sm90: on a device of compute capability 9.0, whose half types take wgmma.
    """
    code, text = check(name)
    assert f"{name.removesuffix('-large')}: " in text, f"nothing was checked: {text}"
    assert code == 0, text


def test_the_plan_covers_everything_once(tmp_path):
    built = tmp_path / "plan"
    output(
        find("g++"), *FLAGS, *INCLUDES, ROOT / "tests/cuda/plan.cc", ROOT / "csrc/cuda/plan.cc",
        "-o", built,
    )  # fmt: skip
    assert output(built) == "all checks passed\n"
