"""The core built for aarch64, run in an emulator: within its bounds, and the bits of x86-64.

tests/cross/bits.cc checks values against the oracle; here its hashes are compared, and with those
of a build by Clang.
"""

from __future__ import annotations

import platform

import pytest
from toolchain import ROOT, build_core, compiler_for, find, output


def build(machine, compiler, folder):
    """tests/cross/bits.cc over the core as CMake builds it for `machine`."""
    # 64-byte vectors of AVX2 take longest to compile; tests/test_core_bits.py has them.
    build_core(machine, compiler, folder, "-DSHARED_DENSE_TEST_ISAS=OFF")
    program = folder / "bits"
    output(
        compiler, "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread",
        "-I", ROOT / "csrc", ROOT / "tests/cross/bits.cc", folder / "libshared_dense_core.a",
        "-o", program,
    )  # fmt: skip
    return program


def hashes(*program):
    """Per instruction set, per call: a hash of all bits of its results."""
    return {
        isa: dict(reversed(line.split(" ", 1)) for line in output(*program, isa).splitlines())
        for isa in output(*program).split()
    }


@pytest.fixture(scope="module")
def aarch64(tmp_path_factory):
    emulator = find("qemu-aarch64-static", "qemu-aarch64")
    program = build("aarch64", compiler_for("aarch64"), tmp_path_factory.mktemp("aarch64"))
    return hashes(emulator, program)


@pytest.fixture(scope="module")
def x86_64(tmp_path_factory):
    if platform.machine() != "x86_64":
        pytest.skip("needs an x86-64 machine beside the emulated one")
    return hashes(build("x86_64", find("g++"), tmp_path_factory.mktemp("x86_64")))


@pytest.fixture(scope="module")
def clang():
    """Of the module, so that one looks for it before anything is built to compare with."""
    return find("clang++")


def test_fused_multiply_adds_give_the_same_bits_on_both_machines(aarch64, x86_64):
    """Whatever the vectors and tiles: NEON's are none of AVX's. Activations included."""
    fused = [isa for isa in x86_64 if isa != "generic"]
    if not fused:
        pytest.skip("this processor has no fused multiply-add")
    for isa in fused:
        assert x86_64[isa] == aarch64["neon"], isa


def test_the_baselines_have_the_same_bits_as_each_other_only(aarch64, x86_64):
    assert x86_64["generic"] == aarch64["generic"]
    differ = [call for call, bits in aarch64["neon"].items() if bits != aarch64["generic"][call]]
    assert len(differ) > len(aarch64["neon"]) / 2, "hashes that tell nothing apart"


def test_clang_makes_the_same_bits(clang, x86_64, tmp_path):
    assert hashes(build("x86_64", clang, tmp_path)) == x86_64
