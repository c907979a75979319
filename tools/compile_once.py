#!/usr/bin/env python3
"""A compiler launcher that compiles nothing twice: `compile_once.py COMPILER ARGUMENTS`.

An object follows from its compiler, its flags and the preprocessed source, which is made every
time: a header that is missing is missed. Objects are kept in `build/objects`, wherever the source
is: the tests build the core anew, and a wheel of an unpacked sdist, and find there what
`make build` has compiled. CMake takes it from the environment: CMAKE_CXX_COMPILER_LAUNCHER.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

OBJECTS = Path(__file__).resolve().parent.parent / "build" / "objects"
KEPT = 300  # of which a checkout has some thirty
# What shows in the preprocessed source, if at all; those that are words of their own take another.
PREPROCESSORS = ("-I", "-D", "-U", "-isystem", "-ffile-prefix-map", "-M")
SOURCES = (".cc", ".cpp", ".cu")
WITH_A_WORD = ("-I", "-D", "-isystem", "-MF", "-MT", "-MQ")


def key_of(command: list[str], target: str) -> str | None:
    """What the object follows from; None where the preprocessor has an error to tell."""
    words = [word for word in command if word not in ("-c", "-o", target)]
    preprocessed = subprocess.run([*words, "-E", "-P"], capture_output=True)
    if preprocessed.returncode:
        return None
    compiler = Path(shutil.which(command[0]) or command[0]).resolve()
    found = [str(compiler), str(compiler.stat().st_mtime_ns)]
    rest = iter(words[1:])
    for word in rest:
        if word in WITH_A_WORD:
            next(rest)
        elif not word.startswith(PREPROCESSORS) and Path(word).suffix not in SOURCES:
            found.append(word)
    return hashlib.sha256("\0".join(found).encode() + preprocessed.stdout).hexdigest()


def keep(target: str, kept: Path) -> None:
    """Keeps an object, in the place of the oldest."""
    OBJECTS.mkdir(parents=True, exist_ok=True)
    handle, new = tempfile.mkstemp(dir=OBJECTS)
    os.close(handle)
    shutil.copyfile(target, new)
    os.replace(new, kept)
    ages = {}
    for path in OBJECTS.glob("*.o"):
        with contextlib.suppress(FileNotFoundError):  # another launcher has removed it
            ages[path] = path.stat().st_mtime_ns
    for old in sorted(ages, key=ages.get, reverse=True)[KEPT:]:
        old.unlink(missing_ok=True)


def main(command: list[str]) -> int:
    """Compiles, or copies what was compiled; the exit status."""
    if "-c" not in command or "-o" not in command:
        return subprocess.run(command).returncode
    target = command[command.index("-o") + 1]
    key = key_of(command, target)
    kept = OBJECTS / f"{key}.o"
    if key is not None:
        with contextlib.suppress(OSError):  # it is not there, or no more
            shutil.copyfile(kept, target)
            os.utime(kept)
            return 0
    status = subprocess.run(command).returncode
    if key is not None and status == 0:
        with contextlib.suppress(OSError):  # a full disk is none of the compiler's business
            keep(target, kept)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
