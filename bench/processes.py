"""Runs a part of the benchmark in a process of its own, which prints a line of JSON per result.

A process imports what it times after it was confined and its environment was set: libraries count
processors, and read their number of threads, when they are imported, and do so once.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import machine

ROOT = Path(__file__).resolve().parent.parent
FAILED = "failed"  # in what comes instead of a row, what it would have been of
# Set to keep the NumPy of other programs small or the same everywhere, they would slow it here.
SLOW_NUMPY = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def lines(function: str, *arguments: object, threads: int) -> Iterator[dict]:
    """What the function yields in a process of its own, line by line as it comes.

    Args:
        function: as 'bench.graph.rows', a generator of what JSON can hold.
        arguments: of the function.
        threads: the process has as many processors.

    Raises:
        RuntimeError: the process failed; the message is the last it said.
    """
    environment = {name: value for name, value in os.environ.items() if name not in SLOW_NUMPY}
    environment |= {
        # NumPy computes what is compared with: its threads would spin on into the next timing.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": str(threads),  # PyTorch's
        "MKL_NUM_THREADS": str(threads),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",  # this is a benchmark of the CPU
    }
    # What it says on stderr goes to a file: in a pipe that nobody reads it would soon wait.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile("w+") as said:
        pickle.dump((function, arguments, threads), given)
        given.seek(0)
        with subprocess.Popen(
            [sys.executable, "-m", "bench.processes"],
            cwd=ROOT, env=environment, text=True, stdin=given, stdout=subprocess.PIPE, stderr=said,
        ) as child:  # fmt: skip
            try:
                yield from map(json.loads, child.stdout)
                if child.wait() != 0:
                    said.seek(0)
                    reason = (said.read().strip().splitlines() or ["no message"])[-1]
                    raise RuntimeError(f"{function} failed: {reason}")
            finally:
                child.kill()  # Ctrl-C: it would go on in the background


def tried(name: str, make: Callable[..., dict], *arguments: object) -> dict:
    """What `make` returns or, if it raises, {FAILED: name, "reason"}: others are to come."""
    try:
        return make(*arguments)
    except Exception as error:  # whatever it is, it is told
        text = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {text[0] if text else 'no message'}"
        return {FAILED: name, "reason": reason}


def main() -> None:
    """Prints what the function that stdin names yields."""
    function, arguments, threads = pickle.load(sys.stdin.buffer)
    machine.confine(threads)
    module, _, name = function.rpartition(".")
    for row in getattr(importlib.import_module(module), name)(*arguments):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
