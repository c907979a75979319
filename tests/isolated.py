"""Cases that could end the process they run in, which is therefore not the one of the tests."""

from __future__ import annotations

import json
import os
import subprocess

import warm


def outcomes(script, names, **environment):
    """What `script` prints of each case: a line of JSON, with its name, for each name on stdin.

    A case that ends the process has {"died": status}; the others run in a new one.
    """
    waiting, found = list(names), {}
    while waiting:
        done = subprocess.run(
            [*warm.python(), script],
            input=json.dumps(waiting),
            capture_output=True,
            text=True,
            timeout=500,
            env=os.environ | environment,
        )
        seen = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        found |= {outcome["name"]: outcome for outcome in seen}
        if done.returncode == 0:
            assert len(seen) == len(waiting)
            break
        assert len(seen) < len(waiting), done.stderr
        found[waiting[len(seen)]] = {"died": done.returncode, "stderr": done.stderr[-2000:]}
        waiting = waiting[len(seen) + 1 :]
    return found
