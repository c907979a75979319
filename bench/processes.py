"""Runs a part of the benchmark in a process of its own, which prints a line of JSON per result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FAILED = "failed"  # in what comes instead of a row, what it would have been of


def lines(
    module: str, arguments: Sequence[object], environment: dict[str, str] | None = None
) -> Iterator[dict]:
    """What `python -m module arguments` prints, line by line as it comes.

    Raises:
        RuntimeError: the process failed; the message is the last it said.
    """
    # What it says on stderr goes to a file: in a pipe that nobody reads it would soon wait.
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT, env={**os.environ, **(environment or {})}, text=True,
        stdout=subprocess.PIPE, stderr=said,
    ) as child:  # fmt: skip
        try:
            yield from map(json.loads, child.stdout)
            if child.wait() != 0:
                said.seek(0)
                reason = (said.read().strip().splitlines() or ["no message"])[-1]
                raise RuntimeError(f"{module} failed: {reason}")
        finally:
            child.kill()  # Ctrl-C: it would go on in the background


def say_row(name: str, make: Callable[..., dict], *arguments: object) -> None:
    """Prints what `make` returns or, if it raises, {FAILED: name, "reason"}: others are to come."""
    try:
        result = make(*arguments)
    except Exception as error:  # whatever it is, it is told
        text = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {text[0] if text else 'no message'}"
        result = {FAILED: name, "reason": reason}
    say(result)


def say(result: dict) -> None:
    """Prints a result for the process that started this one."""
    print(json.dumps(result), flush=True)


def exit_quietly(main: Callable[[], int]) -> None:
    """Runs `main` and exits with its value; Ctrl-C, which the parent hears too, says nothing."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
