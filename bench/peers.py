"""Other libraries, where they are installed: plain reuse as their users write it, on the CPU.

Calls are timed from Python, which costs some microseconds an operation; JAX compiles all of a call
into one, as XLA does for TensorFlow.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bench import exact, interleaved, processes
from bench.exact import Operands
from bench.plan import Job
from bench.shapes import Shape

DTYPES = {"float32": "float32", "float64": "float64", "bfloat16": "bfloat16", "half": "float16"}

# From operands and whether gradients are wanted: what is timed, the operands as they were rounded,
# and what makes arrays of the results.
Prepared = tuple[Callable[[], list], Operands, Callable[[list], list[np.ndarray]]]


def torch_layer(drawn: Operands, dtype: str, backward: bool, threads: int) -> Prepared:
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
    rounded = Operands(
        [array(x) for x in xs], array(weight).T, array(bias), [array(y) for y in dys]
    )
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


def jax_layer(drawn: Operands, dtype: str, backward: bool, threads: int) -> Prepared:
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

    rounded = Operands(arrays(xs), arrays([kernel])[0], arrays([bias])[0], arrays(dys))
    return call, rounded, arrays


LAYERS = {"torch": torch_layer, "jax": jax_layer}


def time_shape(
    name: str, shape: Shape, dtype: str, backward: bool, threads: int, rounds: int, budget: float
) -> dict:
    """Seconds of a call from Python in every round, and how far the results are from float64."""
    call, rounded, arrays = LAYERS[name](exact.draw(shape, dtype), dtype, backward, threads)

    return {
        "seconds": interleaved.measure({name: interleaved.calls(call)}, rounds, budget),
        "error": exact.error(arrays(call()), rounded, backward, dtype),
    }


def rows(
    jobs: Sequence[Job], threads: int, rounds: int, budget: float, name: str
) -> Iterator[dict]:
    """The version, then a row of each job."""
    yield {"version": importlib.import_module(name).__version__}
    for job in jobs:
        given = (name, job.of.shape, job.dtype, job.backward, threads, rounds, budget)
        yield processes.tried(f"{name}, {job.name}", time_shape, *given)
