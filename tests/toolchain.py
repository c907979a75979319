"""Compilers for the tests that build the core themselves; a test skips where one is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# The machine each instruction set belongs to; None: any.
MACHINES = {
    "generic": None,
    "avx2": "x86_64",
    "avx2_wide": "x86_64",
    "avx512": "x86_64",
    "neon": "aarch64",
}


def find(*names):
    """The first of these programs that is there, beside Python or on the PATH."""
    for name in names:
        for path in (str(Path(sys.executable).parent), None):
            if found := shutil.which(name, path=path):
                return found
    return pytest.skip(f"needs {' or '.join(names)}")


# What builds of the tests compile with: each object once, also of what `make build` has compiled.
LAUNCHER = str(ROOT / "tools" / "compile_once.py")


def output(*command, **environment):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=os.environ | environment
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def compiler_for(machine):
    """A g++ that compiles for `machine` (None: any)."""
    own = find("g++")
    if machine in (None, output(own, "-dumpmachine").split("-")[0]):
        return own
    return find(f"{machine}-linux-gnu-g++")


def build_core(machine, compiler, folder, *options):
    """The core as CMake builds it for `machine`."""
    cmake = find("cmake")
    output(
        cmake, "-S", ROOT, "-B", folder, f"-DCMAKE_CXX_COMPILER={compiler}", *options,
        "-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={machine}",
        "-DSHARED_DENSE_WITH_PYTHON=OFF", "-DSHARED_DENSE_WITH_TENSORFLOW=OFF",
        CMAKE_CXX_COMPILER_LAUNCHER=LAUNCHER,
    )  # fmt: skip
    output(cmake, "--build", folder, "--parallel", "2")


def flags_of(source):
    """What cmake/Core.cmake compiles `source` with."""
    text = (ROOT / "cmake/Core.cmake").read_text()
    (shared,) = re.findall(r"set\(isa_flags ([^)]+)\)", text)
    (own,) = re.findall(rf'{re.escape(source)} PROPERTIES COMPILE_OPTIONS\s+"([^"]+)"', text)
    flags = own.replace("${isa_flags}", shared.replace(" ", ";")).split(";")
    assert not [flag for flag in flags if not flag.startswith("-")]
    return flags
