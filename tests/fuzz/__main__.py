"""Drives workers: `python -m fuzz --cases 1000 --seed 7`, in tests/.

Every evaluation of a program, in one mode, to one order and on one path, is a case. A worker runs
many programs; one that dies or hangs has named what it was doing, and another takes its place.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import itertools
import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path

import warm

from fuzz import cases, program

PATIENCE = 120  # seconds for one program, which XLA may compile several times
TRIES = 5  # sizes that are garbage abort in one process, and are an error in the next
PROGRAMS = 2500  # of one worker: what TensorFlow keeps of traced functions adds up


@dataclasses.dataclass
class Result:
    """What a run found."""

    counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    excused: list = dataclasses.field(default_factory=list)
    failures: list = dataclasses.field(default_factory=list)  # (seed, label, what is wrong)

    @property
    def total(self):
        """How many cases ran."""
        return sum(self.counts.values())


class Worker:
    """A process, and what it is doing."""

    def __init__(self, threads=1):
        here = Path(__file__).parent.parent
        paths = [str(here), str(here.parent / "python"), os.environ.get("PYTHONPATH", "")]
        settings = {"PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "3"}
        settings |= {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": "1"}
        self.process = subprocess.Popen(
            [*warm.python(), "-m", "fuzz.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **settings},
        )
        self.seed, self.label, self.programs, self.until, self.rest = None, "", 0, 0, b""

    def begin(self, seed, paths=""):
        """Hands it a program."""
        self.seed, self.label, self.until = seed, "the start", time.monotonic() + PATIENCE
        self.programs += 1
        try:
            self.process.stdin.write(f"{seed} {paths}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # seen when its output is read

    def messages(self):
        """What it has said; None at the end of its life."""
        data = os.read(self.process.stdout.fileno(), 1 << 16)
        if not data:
            return None
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def end(self):
        """Ends the process, whatever it does."""
        self.process.stdin.close()
        if self.seed is not None:
            self.process.kill()
        return self.process.wait()


def plain_dies_too(seed):
    """Whether plain TensorFlow dies or hangs of the same program; what chance decides, in a few."""
    return any(_plain_dies(seed) for _ in range(TRIES))


def _plain_dies(seed):
    worker = Worker()
    worker.begin(seed, "plain")
    with selectors.DefaultSelector() as selector:
        selector.register(worker.process.stdout, selectors.EVENT_READ)
        while selector.select(timeout=PATIENCE):
            said = worker.messages()
            if said is None or any("done" in message for message in said):
                worker.seed = None if said else seed
                worker.end()
                return not said
    worker.end()
    return True


def run(seeds, wanted=None, seconds=None, jobs=1, say=print):
    """Runs the programs of seeds, until there are `wanted` cases or `seconds` have passed."""
    result, start = Result(), time.monotonic()
    seeds, said_at = iter(seeds), start

    def over():
        late = seconds is not None and time.monotonic() - start > seconds
        return late or (wanted is not None and result.total >= wanted)

    def fail(seed, label, wrong, excused=False):
        if excused:
            result.excused.append((seed, label, wrong))
            return
        result.failures.append((seed, label, wrong))
        say(f"FAILED seed {seed}: {label}: {wrong.splitlines()[0][:300]}")

    def next_for(worker):
        seed = None if over() else next(seeds, None)
        if seed is None:
            worker.seed = None
        else:
            worker.begin(seed)
        return seed is not None

    with selectors.DefaultSelector() as selector:

        def hire(number):
            worker = Worker(threads=1 + number)
            if next_for(worker):
                selector.register(worker.process.stdout, selectors.EVENT_READ, (worker, number))
            else:
                worker.end()

        def dismiss(worker, number):
            selector.unregister(worker.process.stdout)
            status = worker.end()
            hire(number)
            return status

        for number in range(jobs):
            hire(number)
        while selector.get_map():
            for key, _ in selector.select(timeout=1):
                worker, number = key.data
                said = worker.messages()
                if said is None:
                    seed, label = worker.seed, worker.label
                    status = dismiss(worker, number)
                    excused = plain_dies_too(seed)
                    result.counts[label.rpartition(", ")[0]] += 1
                    fail(seed, label, f"the process ended with status {status}", excused)
                    continue
                for message in said:
                    if "start" in message:
                        worker.label = message["start"]
                    elif "end" in message:
                        label = message["end"]
                        result.counts[kind_of(label)] += 1
                        if message["wrong"]:
                            fail(worker.seed, label, message["wrong"], message["excused"])
                    elif worker.programs >= PROGRAMS:
                        worker.seed = None
                        dismiss(worker, number)
                    elif not next_for(worker):
                        selector.unregister(worker.process.stdout)
                        worker.end()
            now = time.monotonic()
            for key in list(selector.get_map().values()):
                worker, number = key.data
                if now > worker.until:
                    seed, label = worker.seed, worker.label
                    dismiss(worker, number)
                    fail(seed, label, f"took more than {PATIENCE} s", plain_dies_too(seed))
            if now > said_at + 30:
                said_at = now
                rate = result.total / (now - start)
                say(f"{result.total} cases, {rate:.0f} a second, {len(result.failures)} failures")
    return result


def kind_of(label):
    """A label without its numbers and its path."""
    words = label.split(", ")
    return ", ".join("gradient in some" if "gradient in" in w else w for w in words[:-1]) or label


def report(result, seconds, show):
    """Counts by mode and order, and the programs of what failed."""
    lines = [f"{count:8} {kind}" for kind, count in sorted(result.counts.items())]
    lines.append(
        f"{result.total} cases in {seconds:.0f} s, {result.total / seconds:.0f} a second; "
        f"{len(result.failures)} failures, {len(result.excused)} that plain TensorFlow shares"
    )
    lines += [f"  too: seed {s}: {label}: {w[:150]!r}" for s, label, w in result.excused[:20]]
    for seed in list(dict.fromkeys(seed for seed, _, _ in result.failures))[:show]:
        wrong = [f"{label}: {w[:600]}" for s, label, w in result.failures if s == seed]
        lines += [f"--- seed {seed}", *wrong, program.text(cases.draw(seed))]
    return "\n".join(lines)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, help="stop after so many cases")
    parser.add_argument("--seconds", type=float, help="stop after so many seconds")
    parser.add_argument("--seed", type=int, default=0, help="of the first program")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    parser.add_argument("--show", type=int, default=10, help="programs of failures to print")
    parser.add_argument("--mode", help="only programs of modes that begin so, as jit or graph")
    parser.add_argument("--one", type=int, metavar="SEED", help="run the program of one seed")
    parser.add_argument("--print", type=int, metavar="SEED", help="print it whole, to paste")
    options = parser.parse_args()
    if options.print is not None:
        print(program.whole(cases.draw(options.print)))
        return 0
    if options.one is not None:
        seeds, options.seconds, options.jobs = [options.one], None, 1
        print(program.text(cases.draw(options.one)))
    else:
        if options.cases is None and options.seconds is None:
            options.cases = 1000
        seeds = itertools.count(options.seed)
        if options.mode:
            seeds = (s for s in seeds if cases.draw(s).mode.startswith(options.mode))
    start = time.monotonic()
    result = run(
        seeds, options.cases, options.seconds, options.jobs, lambda s: print(s, flush=True)
    )
    print(report(result, time.monotonic() - start, options.show))
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
