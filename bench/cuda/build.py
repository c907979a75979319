"""Compiles the program that measures."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Where pip puts parts of the CUDA toolkit.
PIP = Path(sysconfig.get_path("purelib")) / "nvidia"


class BuildError(RuntimeError):
    """There is no program; the message says what to do."""


def find_nvcc() -> str:
    """SHARED_DENSE_NVCC, the PATH's, an installed toolkit's or pip's."""
    named = os.environ.get("SHARED_DENSE_NVCC")
    pips = map(str, PIP.glob("cu*/bin"))
    for path in (None, "/usr/local/cuda/bin", *pips):
        if found := named or shutil.which("nvcc", path=path):
            return found
    raise BuildError(
        "there is no nvcc; install a CUDA toolkit (12.0 or later), or pip install nvidia-cuda-nvcc "
        "nvidia-cuda-runtime (CUDA 13: its programs need a driver of version 580 or later)"
    )


def version(nvcc: str) -> str:
    """'13.0.88' of an nvcc."""
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"V([\d.]+)", said)
    return found.group(1) if found else "unknown"


def cublaslt() -> str:
    """pip's library, of any CUDA version, or "" to leave it to the dynamic linker."""
    return next(map(str, sorted(PIP.glob("*/lib/libcublasLt.so.*"))), "")


def sources() -> list[Path]:
    """Of the program: its own and those of csrc that it needs."""
    return [
        *sorted((ROOT / "csrc/cuda").glob("*.cu")),
        *sorted((ROOT / "csrc/cuda").glob("*.cc")),
        ROOT / "csrc/core/reference.cc",
        ROOT / "bench/cuda/measure.cc",
    ]


def _targets(source: Path) -> list[str]:
    if source.name.startswith("hopper_"):  # instructions of that one architecture
        return ["-gencode", "arch=compute_90a,code=sm_90a"]
    return [
        "-gencode", "arch=compute_80,code=sm_80",
        "-gencode", "arch=compute_90,code=[sm_90,compute_90]",
    ]  # fmt: skip


def build(nvcc: str, folder: Path) -> Path:
    """Compiles and links `measure` in `folder`; files that are newer than all sources stay.

    Raises:
        BuildError: nvcc fails; the message is its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    headers = [*(ROOT / "csrc").rglob("*.h"), *(ROOT / "csrc").rglob("*.inc")]
    headers += [*(ROOT / "tests/cuda").glob("*.h"), *(ROOT / "bench/cuda").glob("*.h")]
    newest = max(path.stat().st_mtime for path in headers)
    blas = [f"-I{path.parent}" for path in sorted(PIP.glob("*/include/cublasLt.h"))[:1]]

    def run(*command: object) -> None:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode != 0:
            raise BuildError(f"{' '.join(map(str, command[:2]))} failed:\n{done.stderr}")

    def compiled(source: Path) -> Path:
        built = folder / f"{source.name}.o"
        if built.exists() and built.stat().st_mtime > max(newest, source.stat().st_mtime):
            return built
        run(
            nvcc, "-std=c++17", "-O3", "-DNDEBUG", "--expt-relaxed-constexpr", *_targets(source),
            "-I", ROOT / "csrc", "-I", ROOT / "tests/cuda", *blas, "-x", "cu", "-c", source,
            "-o", built,
        )  # fmt: skip
        return built

    # As many at once as there are cores, but no more than memory is sure to hold.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        objects = list(pool.map(compiled, sources()))
    run(nvcc, *objects, "-ldl", "-o", folder / "measure")
    return folder / "measure"
