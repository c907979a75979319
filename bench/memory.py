"""How much memory a forward and backward pass needs, against the number of inputs.

TensorFlow accounts for the memory of GPUs only. So each runs in a process of its own, and what
counts is how far the peak of its resident memory rises above what is there before: outputs,
gradients, and whatever lies between.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import processes
from bench.limits import ITEM_BYTES
from bench.plan import Job
from bench.shapes import Shape, Workload

# Plain reuse makes a dW for every input before it adds them up: here each is larger than all else.
ROWS, SIZE = 16, 2048
INPUTS = (1, 2, 4, 8, 16)
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


def peak_growth(name: str, shape: Shape, dtype: str, threads: int) -> Iterator[dict]:
    """Bytes by which one call of the contestant raises the peak of this process."""
    import tensorflow as tf

    import shared_dense as sd
    from bench import contestants, timing

    timing.prepare(threads)

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
    yield {"bytes": peak - before}


def measure(inputs: int, threads: int, dtype: str) -> dict:
    """Peak bytes of all, and those of one dW.

    Raises:
        RuntimeError: it could not be measured; the message says why.
    """
    shape = workload(inputs).shape
    peaks = {}
    for name in CONTESTANTS:
        arguments = (name, shape, dtype, threads)
        (line,) = processes.lines("bench.memory.peak_growth", *arguments, threads=threads)
        peaks[name] = line["bytes"]
    return {"dkernel_bytes": SIZE * SIZE * ITEM_BYTES[dtype], "peak_bytes": peaks}


def rows(inputs: Sequence[int], threads: int, dtype: str) -> Iterator[dict]:
    """A row for each number of inputs, as the results have it."""
    for n in inputs:
        described = Job("memory", workload(n), dtype, threads).described()
        yield {**described, **measure(n, threads, dtype)}
