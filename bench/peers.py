"""Other libraries, where they are installed: plain reuse as their users write it, on the CPU.

    python -m bench.peers NAME THREADS DTYPE ROUNDS BUDGET PASSES SHAPE...

PASSES is separated by commas. Prints a line of JSON with the version, then for each pass
a row for each shape.

Calls are timed from Python, which costs some microseconds an operation; JAX compiles all of a call
into one, as XLA does for TensorFlow.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bench import exact, interleaved, machine, processes
from bench.exact import Drawn
from bench.shapes import Shape, parse

DTYPES = {"float32": "float32", "float64": "float64", "bfloat16": "bfloat16", "half": "float16"}

# From operands and whether gradients are wanted: what is timed, the operands as they were rounded,
# and what makes arrays of the results.
Prepared = tuple[Callable[[], list], Drawn, Callable[[list], list[np.ndarray]]]


def torch_layer(drawn: Drawn, dtype: str, backward: bool, threads: int) -> Prepared:
    """Relu of a linear per input, and autograd."""
    import torch

    torch.set_num_threads(threads)
    to = getattr(torch, DTYPES[dtype])

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(to)

    def array(values: torch.Tensor) -> np.ndarray:
        return values.detach().to(torch.float64).numpy()

    xs, dys = ([tensor(x) for x in part] for part in (drawn.xs, drawn.dys))
    # As nn.Linear keeps it, transposed.
    weight, bias = tensor(np.ascontiguousarray(drawn.kernel.T)), tensor(drawn.bias)
    rounded = Drawn([array(x) for x in xs], array(weight).T, array(bias), [array(y) for y in dys])
    sources = [*xs, weight, bias]
    for source in sources:
        source.requires_grad_(backward)

    def call() -> list:
        ys = [torch.relu(torch.nn.functional.linear(x, weight, bias)) for x in xs]
        return [*ys, *torch.autograd.grad(ys, sources, dys)] if backward else ys

    def arrays(results: list) -> list[np.ndarray]:
        values = [array(result) for result in results]
        if backward:
            values[-2] = values[-2].T
        return values

    return call, rounded, arrays


def jax_layer(drawn: Drawn, dtype: str, backward: bool, threads: int) -> Prepared:
    """Plain reuse under jit, with its vector-Jacobian product; XLA takes all processors."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", dtype == "float64")
    xs, kernel, bias, dys = jax.tree.map(lambda x: jnp.asarray(x, DTYPES[dtype]), tuple(drawn))

    def forward(xs: list, kernel: jax.Array, bias: jax.Array) -> list:
        return [jax.nn.relu(x @ kernel + bias) for x in xs]

    @jax.jit
    def layer(xs: list, kernel: jax.Array, bias: jax.Array, dys: list) -> list:
        if not backward:
            return forward(xs, kernel, bias)
        ys, pull = jax.vjp(forward, xs, kernel, bias)
        dxs, dkernel, dbias = pull(dys)
        return [*ys, *dxs, dkernel, dbias]

    def call() -> list:
        return jax.block_until_ready(layer(xs, kernel, bias, dys))

    def arrays(results: list) -> list[np.ndarray]:
        return [np.asarray(result, np.float64) for result in results]

    rounded = Drawn(arrays(xs), arrays([kernel])[0], arrays([bias])[0], arrays(dys))
    return call, rounded, arrays


LAYERS = {"torch": torch_layer, "jax": jax_layer}


def missing(name: str) -> bool:
    """Whether a library of LAYERS is not installed."""
    return importlib.util.find_spec(name) is None


def time_shape(
    name: str, shape: Shape, dtype: str, backward: bool, threads: int, rounds: int, budget: float
) -> dict:
    """Seconds of a call from Python in every round, and how far the results are from float64."""
    call, rounded, arrays = LAYERS[name](exact.draw(shape, dtype), dtype, backward, threads)

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            call()
        return time.perf_counter() - start

    return {
        "seconds": interleaved.measure({name: run}, rounds, budget, {}),
        "error": exact.error(arrays(call()), rounded, backward, dtype),
    }


def measure(
    name: str, timed: Sequence[Shape], passes: Sequence[str], dtype: str, threads: int,
    rounds: int, budget: float,
) -> Iterator[dict]:  # fmt: skip
    """What the process of its own prints: {version}, then the rows, pass by pass.

    Raises:
        RuntimeError: the process failed; the message is the last it said.
    """
    arguments = [name, threads, dtype, rounds, budget, ",".join(passes)]
    environment = {variable: str(threads) for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    environment |= {"OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return processes.lines("bench.peers", [*arguments, *(s.name for s in timed)], environment)


def main() -> int:
    """Times the shapes of the command line."""
    name, threads, dtype, rounds, budget, passes = sys.argv[1:7]
    machine.confine(int(threads))  # before the library counts them
    processes.say({"version": importlib.import_module(name).__version__})
    for which in passes.split(","):
        for shape in map(parse, sys.argv[7:]):
            backward = which == "forward+backward"
            processes.say_row(
                f"{name}, {which} {dtype} {shape.name}",
                time_shape, name, shape, dtype, backward, int(threads), int(rounds), float(budget),
            )  # fmt: skip
    return 0


if __name__ == "__main__":
    processes.exit_quietly(main)
