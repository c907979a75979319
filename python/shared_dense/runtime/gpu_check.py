"""Whether the GPU kernels compute what they should, on the GPUs of this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import tensorflow as tf

from shared_dense.runtime.exactness import Problem

# One of each that the kernels treat in ways of their own: few rows, rows and widths that fit no
# vector or tile, more inputs than travel in a kernel's parameters, the largest tile of a product of
# rows and of a kernel gradient.
_SHAPES = (
    ((1, 3), 72, 40, False),
    ((1, 3), 72, 40, True),
    ((5, 0, 33, 2), 37, 29, False),
    ((5, 0, 33, 2), 37, 29, True),
    ((1,) * 70, 24, 16, False),
    ((700, 409), 40, 1544, False),
    ((700, 409), 40, 1544, True),
    ((17, 3), 1288, 1416, False),
)
# And whether products may be rounded to TensorFloat-32, which may be asked for later.
_ARITHMETICS = (
    (tf.float32, False),
    (tf.float32, True),
    (tf.float64, False),
    (tf.bfloat16, False),
    (tf.float16, False),
)

Op = Callable[..., Sequence[tf.Tensor]]


class Verdict(NamedTuple):
    """What was found: `reason` says what is wrong, or else `summary` how well it went."""

    reason: str
    summary: str


def _call(ops, device: str) -> Op:
    """The op itself on a device, without the choice of a path."""

    def call(inputs, kernel, bias, activations, transpose_kernel):
        outputs = ops.shared_dense_shared_mat_mul(
            inputs=inputs,
            kernel=kernel,
            biases=[bias],
            activations=activations,
            transpose_kernel=transpose_kernel,
            bias_of=[],
            trains_kernel=[],
            num_pre_activations=0,
        ).outputs
        elsewhere = {y.device for y in outputs if not y.device.endswith(device)}
        if elsewhere:
            raise RuntimeError(f"the op ran on {elsewhere.pop()}")
        return outputs

    return call


@contextlib.contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Sets what TensorFlow allows, and puts it back."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(allowed)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _check_device(call: Op, device: str) -> Verdict:
    most, of = 0.0, ""
    for dtype, tf32 in _ARITHMETICS:
        for *sizes, transposed in _SHAPES:
            problem = Problem(*sizes, dtype, transposed)
            name = problem.name + (" in TensorFloat-32" if tf32 else "")
            try:
                with tf.device(device), _tf32(tf32):
                    excesses = problem.excesses(call, tf32)
            except (tf.errors.OpError, RuntimeError) as error:
                return Verdict(f"{name} failed on {device}: {error}", "")
            worst = max(excesses, key=excesses.get)
            if not excesses[worst] <= 1:
                return Verdict(
                    f"wrong results on {device}: {name}: the {worst} is off by "
                    f"{excesses[worst]:.3g} times what rounding may do",
                    "",
                )
            if excesses[worst] > most:
                most, of = excesses[worst], f"{worst} of {name}"
    return Verdict("", f"right on {device}, at most {most:.2f} of the bound ({of})")


def check(ops, devices: Sequence[str]) -> Verdict:
    """Runs the op forward and backward on each device ('GPU:0') against float64 on the CPU.

    In a thread of its own: no tape, graph or device of the caller's reaches there.
    """

    def run() -> Verdict:
        verdicts = []
        for device in devices:
            verdict = _check_device(_call(ops, device), device)
            if verdict.reason:
                return verdict
            verdicts.append(verdict.summary)
        return Verdict("", "; ".join(verdicts))

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()
