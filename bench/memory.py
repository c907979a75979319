"""How much memory a forward and backward pass needs, against the number of inputs.

TensorFlow accounts for the memory of GPUs only. So each runs in a process of its own, and what
counts is how far the peak of its resident memory rises above what is there before: outputs,
gradients, and whatever lies between.

    python -m bench.memory op THREADS DTYPE SHAPE
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from bench import machine, processes
from bench.graph import ENVIRONMENT, quiet
from bench.limits import ITEM_BYTES
from bench.shapes import Shape, Workload, parse

# Plain reuse makes a dW for every input before it adds them up: here each is larger than all else.
ROWS, SIZE = 16, 2048
MOST_INPUTS = 16
INPUTS = (1, 2, 4, 8, MOST_INPUTS)
CONTESTANTS = ("op", "plain", "concat")


def workload(inputs: int) -> Workload:
    """What is measured for so many inputs."""
    return Workload("memory", f"{inputs} inputs", Shape((ROWS,) * inputs, SIZE, SIZE))


def _status_bytes(field: str) -> int:
    """A field of /proc/self/status, such as VmRSS (resident now) or VmHWM (the most so far)."""
    text = Path("/proc/self/status").read_text()
    return int(re.findall(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)[0]) << 10


def _reset_peak() -> None:
    """Makes what is resident now the peak."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak_growth(name: str, shape: Shape, dtype: str) -> int:
    """Bytes by which one call of the contestant raises the peak of this process."""
    import tensorflow as tf

    import shared_dense as sd
    from bench import contestants

    def signature(*size: int | None) -> tf.TensorSpec:
        return tf.TensorSpec(size, dtype)

    # Features unknown: the small call has everything traced, optimised and loaded for the large.
    each = [signature(rows, None) for rows in shape.rows]
    specs = contestants.Operands(each, signature(None, None), signature(None), each)
    layer = contestants.contestants(backward=True)[name]
    function = tf.function(layer, input_signature=[specs], autograph=False)
    function(contestants.make_operands(shape._replace(in_features=8, units=8), dtype))
    operands = contestants.make_operands(shape, dtype)
    _reset_peak()
    before = _status_bytes("VmRSS")
    results = function(operands)
    results[-1].numpy()  # results are there, and held
    peak = _status_bytes("VmHWM")
    if name == "op" and sd.status().last_path != "op":
        raise RuntimeError(f"the op did not run: {sd.status().last_reason}")
    return peak - before


def measure(inputs: int, threads: int, dtype: str) -> dict:
    """Peak bytes of all, and those of one dW.

    Raises:
        RuntimeError: it could not be measured; the message says why.
    """
    shape = workload(inputs).shape
    peaks = {}
    for name in CONTESTANTS:
        (line,) = processes.lines("bench.memory", [name, threads, dtype, shape.name], ENVIRONMENT)
        peaks[name] = line["bytes"]
    return {"dkernel_bytes": SIZE * SIZE * ITEM_BYTES[dtype], "peak_bytes": peaks}


def rows(inputs: tuple[int, ...], threads: int, dtype: str) -> Iterator[dict]:
    """A row for each number of inputs, as the results have it."""
    for n in inputs:
        setting = {"dtype": dtype, "threads": threads, "jit": False, "kernels": 1}
        yield {**workload(n).described(), **setting, **measure(n, threads, dtype)}


def main() -> int:
    """Prints the growth of the contestant named on the command line, in bytes."""
    name, threads, dtype, shape = sys.argv[1], int(sys.argv[2]), sys.argv[3], parse(sys.argv[4])
    machine.confine(threads)
    with quiet():
        import tensorflow  # noqa: F401
    from bench import timing

    timing.prepare(threads)
    processes.say({"bytes": _peak_growth(name, shape, dtype)})
    return 0


if __name__ == "__main__":
    processes.exit_quietly(main)
