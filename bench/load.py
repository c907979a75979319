"""How long a process takes from its start to its first result, step by step.

Imports are those of a warm file system: the first process of all would measure the disk.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

from bench import medians, processes
from bench.shapes import Shape

SHAPE = Shape((8,) * 8, 1024, 1024)
CONTESTANTS = ("op", "plain")


def steps(name: str, jit: bool, dtype: str) -> Iterator[dict]:
    """Seconds of every step, of forward and backward of SHAPE, in a process that did nothing yet.

    TensorFlow imports Keras. Plain reuse does not need this library: importing it is not counted.
    """
    seconds = {}
    then = time.perf_counter()

    def done(step: str) -> None:
        nonlocal then
        seconds[step] = time.perf_counter() - then
        then = time.perf_counter()

    import tensorflow as tf

    done("import tensorflow")
    if name == "op":
        import shared_dense as sd

        done("import shared_dense")
        sd.status()
        done("load the op")
    from bench import contestants

    operands = contestants.make_operands(SHAPE, dtype)
    layer = contestants.with_backward(contestants.FORWARD[name])
    function = tf.function(layer, jit_compile=jit or None, autograph=False)
    then = time.perf_counter()
    function.get_concrete_function(operands)
    done("trace")
    function(operands)
    done("compile and first call" if jit else "first call")
    function(operands)
    done("second call")
    yield seconds


def rows(dtype: str, threads: int, repeats: int) -> Iterator[dict]:
    """A row for each contestant and way, as the results have it.

    Raises:
        RuntimeError: a process failed; the message is the last it said.
    """
    for jit, name in itertools.product((False, True), CONTESTANTS):
        found = []
        for _ in range(repeats):
            found += processes.lines("bench.load.steps", name, jit, dtype, threads=threads)
        yield {
            "contestant": name,
            "dtype": dtype,
            "jit": jit,
            "seconds": {step: medians.spread([[f[step]] for f in found]) for step in found[0]},
        }
