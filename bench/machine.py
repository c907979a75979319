"""What the machine can do at best: compiles and runs bench/probe.cc, says where figures are from.

Nothing here imports NumPy or TensorFlow, whose threads would disturb the probe.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.limits import Level, Machine

ROOT = Path(__file__).resolve().parent.parent
SOURCE = Path(__file__).resolve().parent / "probe.cc"
FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-pthread")
REPEATS = 15
# Where the system does not say: bytes of one L1, L2 and L3.
ASSUMED_CACHES = {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}
SAID = "measured by bench/probe.cc, the best of several runs"  # of where the figures are from
LEAST_DRAM = 256 << 20  # bytes that no cache holds a part of worth mentioning


class Cache(NamedTuple):
    """A level of cache."""

    name: str
    size: int  # bytes of one
    count: int  # how many of them the processors have on which this process may run

    def capacity(self, threads: int) -> int:
        """Bytes that so many threads have, spread over the caches as far as they go."""
        return self.size * min(threads, self.count)


class Measured(NamedTuple):
    """The machine at several numbers of threads."""

    machines: dict[int, Machine]
    caches: tuple[Cache, ...]


def cpu_name() -> str:
    """The processor's model, as far as the system tells."""
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return models[0].strip() if models else platform.machine()


def cpus() -> list[int]:
    """Processors on which this process may run."""
    return sorted(os.sched_getaffinity(0))


def apart(system: Path = Path("/sys/devices/system/cpu")) -> list[int]:
    """The same, those that share a core with one before them last."""
    firsts, others, seen = [], [], set()
    for cpu in cpus():
        try:
            core = (system / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
        except OSError:
            core = str(cpu)
        (others if core in seen else firsts).append(cpu)
        seen.add(core)
    return firsts + others


def confine(threads: int) -> None:
    """Leaves this process as many processors as it has threads, on cores of their own as far as
    there are: no contestant has more of them than another, whatever threads it starts.
    """
    os.sched_setaffinity(0, apart()[:threads])


def caches(system: Path = Path("/sys/devices/system/cpu")) -> tuple[Cache, ...]:
    """L1 to L3 as Linux describes them, or else ASSUMED_CACHES."""
    found: dict[tuple[str, int], set[str]] = {}  # of name and size: the processors of each
    for index in (i for cpu in cpus() for i in (system / f"cpu{cpu}" / "cache").glob("index*")):
        try:
            names = ("level", "type", "size", "shared_cpu_list")
            level, kind, size, shared = ((index / name).read_text().strip() for name in names)
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            found.setdefault((f"L{level}", int(size[:-1]) << 10), set()).add(shared)
    if not {"L1", "L2"} <= {name for name, _ in found}:
        count = {"L1": len(cpus()), "L2": len(cpus()), "L3": 1}
        return tuple(Cache(name, size, count[name]) for name, size in ASSUMED_CACHES.items())
    return tuple(Cache(*of, len(shared)) for of, shared in sorted(found.items()))


def working_sets(levels: Sequence[Cache], threads: int) -> dict[str, int]:
    """Bytes one thread touches to measure a level: half its share of a cache, far more of DRAM."""
    sets = {cache.name: cache.capacity(threads) // 2 // threads for cache in levels}
    dram = max(LEAST_DRAM, 4 * levels[-1].capacity(threads))
    return {**sets, "DRAM": dram // threads}


def compile_probe(folder: Path) -> Path:
    """The compiled probe.

    Raises:
        RuntimeError: there is no compiler, or it fails; the message says which.
    """
    compiler = os.environ.get("CXX", "c++").split()
    if shutil.which(compiler[0]) is None:
        raise RuntimeError(f"no limit to compare with: there is no C++ compiler ({compiler[0]})")
    program = folder / "probe"
    _output([*compiler, *FLAGS, str(SOURCE), "-o", str(program)])
    return program


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[0]
        raise RuntimeError(f"no limit to compare with: {Path(command[0]).name} failed: {reason}")
    return done.stdout


def from_probe(found: dict, levels: Sequence[Cache]) -> Machine:
    """The machine of what the probe printed; L1 is measured, but no shape lives in it."""
    capacity = {cache.name: cache.capacity(found["threads"]) for cache in levels} | {"DRAM": None}
    rates = zip(capacity.items(), found["levels"], strict=True)
    return Machine(found["fma"], tuple(Level(*of, **rate) for of, rate in rates if of[0] != "L1"))


def measure(threads: Sequence[int]) -> Measured:
    """The machine at each of the numbers of threads, in a few seconds.

    Raises:
        RuntimeError: the probe does not compile or run; the message says why.
    """
    levels = caches()
    machines = {}
    with tempfile.TemporaryDirectory() as folder:
        program = str(compile_probe(Path(folder)))
        for n in threads:
            sets = working_sets(levels, n).values()
            found = json.loads(_output([program, *map(str, (n, REPEATS, *sets))]))
            machines[n] = from_probe(found, levels)
    return Measured(machines, levels)


def described(measured: Measured) -> dict:
    """The machine's limits as the results keep them: rates per second, capacities in bytes."""
    machines = [
        {"threads": threads, "fma": found.fma, "levels": [lv._asdict() for lv in found.levels]}
        for threads, found in measured.machines.items()
    ]
    return {"source": SAID, "machines": machines}


def commit() -> dict | None:
    """Of this checkout, and whether files that git knows differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return {"hash": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return None
