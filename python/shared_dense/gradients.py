"""Gradients of the ops. Imported by the loader once the op library is loaded."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from shared_dense import composition, loader, paths

# f'(z) cannot be had from f(z) for these: the pre-activation is kept or made again.
NEED_PRE_ACTIVATION = frozenset({"silu", "gelu", "gelu_tanh"})


def _registers(op: str) -> Callable[[Callable], Callable]:
    """`tf.RegisterGradient`, which refuses a second one; of a module imported again, the first's
    stays, and computes the same."""

    def register(function: Callable) -> Callable:
        with contextlib.suppress(KeyError):
            tf.RegisterGradient(op)(function)
        return function

    return register


def attributes_of(op) -> dict[str, Any]:
    """What both ops and the composition take."""
    return {
        "activations": [tf.compat.as_str(name) for name in op.get_attr("activations")],
        "transpose_kernel": op.get_attr("transpose_kernel"),
        "bias_of": op.get_attr("bias_of"),
        "trains_kernel": op.get_attr("trains_kernel"),
    }


def _placed(gradient: Callable) -> Callable:
    """Runs the gradient where the op itself may run."""

    @functools.wraps(gradient)
    def run(op, *grads):
        with paths.placed():
            return gradient(op, *grads)

    return run


@_registers("SharedDense>SharedMatMul")
@_placed
def _shared_matmul_grad(op, *grads):
    """One call makes every gradient asked for: all dX, one accumulated dW, the db."""
    attributes = attributes_of(op)
    names, trains_kernel = attributes["activations"], attributes["trains_kernel"]
    n = op.get_attr("N")
    inputs, kernel, biases = op.inputs[:n], op.inputs[n], op.inputs[n + 1 :]
    # An eager tape says what nobody will look at; a graph does not.
    skipped = getattr(op, "skip_input_indices", None) or ()
    needs_input = [i not in skipped for i in range(n)]
    needs_kernel = n not in skipped and (not trains_kernel or any(trains_kernel))
    needs_biases = any(n + 1 + i not in skipped for i in range(len(biases)))

    ops = loader.load().ops
    outputs, kept = op.outputs[:n], op.outputs[n:]
    per_input = names * n if len(names) == 1 else names
    if any(name in NEED_PRE_ACTIVATION for name in per_input) and not kept:
        kept = ops.shared_dense_shared_mat_mul(
            inputs=inputs,
            kernel=kernel,
            biases=biases,
            **(attributes | {"activations": ["linear"]}),
        ).outputs
    saved = []
    if any(name != "linear" for name in per_input):
        saved = [
            kept[i] if name in NEED_PRE_ACTIVATION else outputs[i]
            for i, name in enumerate(per_input)
        ]
    # `pre_activations` is a cache, not a result: what flows into it is dropped on purpose.
    found = ops.shared_dense_shared_mat_mul_grad(
        output_grads=list(grads[:n]),
        inputs=inputs,
        kernel=kernel,
        biases=biases,
        saved=saved,
        **attributes,
        needs_input_grad=needs_input,
        num_input_grads=sum(needs_input),
        num_kernel_grads=int(needs_kernel),
        num_bias_grads=len(biases) if needs_biases else 0,
    )
    input_grads = iter(found.input_grads)
    result = [next(input_grads) if needed else None for needed in needs_input]
    result += found.kernel_grads or [None]
    result += found.bias_grads or [None] * len(biases)
    return result


@_registers("SharedDense>SharedMatMulGrad")
def _shared_matmul_grad_grad(op, *grads):
    """Second and higher order: differentiates the same gradient made of TensorFlow's own ops.

    `saved` is a cache of what the inputs determine, so it gets no gradient: the composition makes
    the pre-activation again from the inputs, and all of the derivative flows through them.
    """
    n, num_biases = op.get_attr("N"), op.get_attr("B")
    needs_input = op.get_attr("needs_input_grad")
    # A tape knows tensors by identity: one that fills two slots would get both slots' gradients in
    # each. Every slot has a tensor of its own here.
    sources = [tf.identity(x) for x in op.inputs[: 2 * n + 1 + num_biases]]
    output_grads, inputs = sources[:n], sources[n : 2 * n]
    kernel, biases = sources[2 * n], sources[2 * n + 1 :]
    with tf.GradientTape() as outer:
        outer.watch(sources)
        with tf.GradientTape() as inner:
            inner.watch(sources)
            outputs = composition.shared_matmul(inputs, kernel, biases, **attributes_of(op))
        targets = [x for x, needed in zip(inputs, needs_input, strict=True) if needed]
        targets += [kernel] * op.get_attr("num_kernel_grads")
        targets += biases if op.get_attr("num_bias_grads") else []
        # Zeros for a bias that no input uses and a kernel that none trains, as from the op.
        first_order = inner.gradient(
            outputs,
            targets,
            output_gradients=output_grads,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
    second_order = outer.gradient(first_order, sources, output_gradients=list(grads))
    return second_order + [None] * op.get_attr("num_saved")
