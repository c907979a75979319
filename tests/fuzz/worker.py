"""Runs cases in a process of its own, which says what it is about to do before it does it.

Reads a seed a line, with the paths to take if they are not the case's; writes JSON a line:
{"start": label}, {"end": label, "wrong": ..., "excused": ...} per evaluation and {"done": seed}.
"""

from __future__ import annotations

import json
import os
import sys


def main():
    """Reads until its input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else writes there
    import tensorflow as tf

    from fuzz import cases, compare, faults, program

    fault = os.environ.get("FUZZ_FAULT")
    if fault:
        faults.inject(fault)

    def say(**what):
        print(json.dumps(what), file=out, flush=True)

    compare.started = lambda label: say(start=label)
    compare.ended = lambda label, wrong, excused: say(end=label, wrong=wrong, excused=excused)
    for line in sys.stdin:
        seed, _, paths = line.strip().partition(" ")
        try:
            program.execute(cases.draw(int(seed)), paths.split() or None)
        except Exception as error:  # of the harness, an invalid program; or of TensorFlow itself
            wrong = f"{type(error).__name__}: {str(error)[:2000]}"
            say(end="the truth", wrong=wrong, excused=isinstance(error, tf.errors.OpError))
        say(done=int(seed))


if __name__ == "__main__":
    main()
