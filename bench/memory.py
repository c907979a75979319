"""How much memory a forward and backward pass needs: the op against plain reuse.

TensorFlow accounts for the memory of GPUs only. So each runs in a process of its own, and what
counts is how far the peak of its resident memory rises above what is there before: outputs,
gradients, and whatever lies between.

    python -m bench.memory op THREADS DTYPE
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from bench.limits import ITEM_BYTES
from bench.shapes import Shape

ROOT = Path(__file__).resolve().parent.parent
# Plain reuse makes a dW for every input before it adds them up: here each is larger than all else.
SHAPE = Shape((16,) * 16, 2048, 2048)
WARM_UP = Shape((1,) * 16, 8, 8)
CONTESTANTS = ("op", "plain")


def _status_bytes(field: str) -> int:
    """A field of /proc/self/status, such as VmRSS (resident now) or VmHWM (the most so far)."""
    text = Path("/proc/self/status").read_text()
    return int(re.findall(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)[0]) << 10


def _reset_peak() -> None:
    """Makes what is resident now the peak."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak_growth(name: str, dtype: str) -> int:
    """Bytes by which one call of the contestant raises the peak of this process."""
    import tensorflow as tf

    import shared_dense as sd
    from bench import contestants

    def signature(*shape: int | None) -> tf.TensorSpec:
        return tf.TensorSpec(shape, dtype)

    n = len(SHAPE.rows)
    specs = contestants.Operands(
        [signature(None, None)] * n,
        signature(None, None),
        signature(None),
        [signature(None, None)] * n,
    )
    layer = contestants.contestants(backward=True)[name]
    # Sizes unknown: the small call has everything traced, optimised and loaded for the large one.
    function = tf.function(layer, input_signature=[specs], autograph=False)
    function(contestants.make_operands(WARM_UP, dtype))
    operands = contestants.make_operands(SHAPE, dtype)
    _reset_peak()
    before = _status_bytes("VmRSS")
    results = function(operands)
    results[-1].numpy()  # results are there, and held
    peak = _status_bytes("VmHWM")
    if name == "op" and sd.status().last_path != "op":
        raise RuntimeError(f"the op did not run: {sd.status().last_reason}")
    return peak - before


def _bytes_of(name: str, threads: int, dtype: str) -> int:
    command = [sys.executable, "-m", "bench.memory", name, str(threads), dtype]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"memory of {name} could not be measured: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(threads: int, dtype: str) -> dict:
    """Peak bytes of both, and those of one dW; where it cannot be measured, the reason."""
    found = {
        "shape": SHAPE.name,
        "dtype": dtype,
        "dkernel_bytes": SHAPE.in_features * SHAPE.units * ITEM_BYTES[dtype],
    }
    try:
        return found | {
            "peak_bytes": {name: _bytes_of(name, threads, dtype) for name in CONTESTANTS}
        }
    except (RuntimeError, ValueError) as error:
        return found | {"unavailable": str(error)}


def main() -> int:
    """Prints the growth of the contestant named on the command line, in bytes."""
    name, threads, dtype = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from bench import timing

    timing.prepare(threads)
    print(json.dumps(_peak_growth(name, dtype)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # the parent, which heard it too, says so
        sys.exit(130)
