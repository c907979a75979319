"""Gradients of the ops. Imported by the loader once the op library is loaded."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from shared_dense import compat, composition, loader, outputs, paths

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


@_registers("SharedDense>SharedMatMulOutput")
def _shared_matmul_output_grad(op, grad):
    if not isinstance(grad, (tf.Tensor, tf.IndexedSlices)):  # of a tf.custom_gradient, say
        grad = tf.convert_to_tensor(grad, op.inputs[0].dtype)
    outputs.mark(grad, op.inputs[0])
    return grad


@_registers("SharedDense>SharedMatMul")
@_placed
def _shared_matmul_grad(op, *grads):
    """One call makes every gradient asked for: all dX, one accumulated dW, the db.

    Inputs whose outputs no loss uses take no part. What only they use has no gradient, as with
    plain reuse.
    """
    attributes = attributes_of(op)
    n = op.get_attr("N")
    inputs, kernel, biases = op.inputs[:n], op.inputs[n], op.inputs[n + 1 :]
    used = outputs.asked_for(op.outputs[:n], grads[:n])
    bias_indices = range(len(biases))
    if len(used) < n:
        attributes, bias_indices = _of_some(attributes, used, n, len(biases))
    names, trains_kernel = attributes["activations"], attributes["trains_kernel"]
    # An eager tape says what nobody will look at; a graph does not.
    skipped = frozenset(getattr(op, "skip_input_indices", None) or ())
    needs_input = [i not in skipped for i in used]
    needs_kernel = n not in skipped and (not trains_kernel or any(trains_kernel))
    needs_biases = any(n + 1 + i not in skipped for i in bias_indices)
    operands = {
        "inputs": [inputs[i] for i in used],
        "kernel": kernel,
        "biases": [biases[i] for i in bias_indices],
    }

    ops = loader.load().ops
    kept = op.outputs[n:] and [op.outputs[n + i] for i in used]
    per_input = names * len(used) if len(names) == 1 else names
    if any(name in NEED_PRE_ACTIVATION for name in per_input) and not kept:
        kept = ops.shared_dense_shared_mat_mul(
            **operands, **(attributes | {"activations": ["linear"]})
        ).outputs
    saved = []
    if any(name != "linear" for name in per_input):
        saved = [
            kept[i] if name in NEED_PRE_ACTIVATION else outputs.handed_out(op.outputs[used[i]])
            for i, name in enumerate(per_input)
        ]
    # `pre_activations` is a cache, not a result: what flows into it is dropped on purpose.
    found = ops.shared_dense_shared_mat_mul_grad(
        output_grads=[grads[i] for i in used],
        **operands,
        saved=saved,
        **attributes,
        needs_input_grad=needs_input,
        num_input_grads=sum(needs_input),
        num_kernel_grads=int(needs_kernel),
        num_bias_grads=len(bias_indices) if needs_biases else 0,
    )
    found = [*found.input_grads, *found.kernel_grads, *found.bias_grads]
    places = [i for i, needed in zip(used, needs_input, strict=True) if needed]
    places += [n] * needs_kernel
    places += [n + 1 + i for i in bias_indices] if needs_biases else []
    if compat.may_need_gradient():
        found = outputs.hand_out(found)
    result = [None] * len(op.inputs)
    for place, gradient in zip(places, found, strict=True):
        result[place] = gradient
    return result


def _of_some(
    attributes: dict[str, Any], used: list[int], n: int, num_biases: int
) -> tuple[dict[str, Any], list[int]]:
    """The attributes of a call on some of its inputs, and the indices of the biases they use."""
    names, trains_kernel = attributes["activations"], attributes["trains_kernel"]
    bias_of = composition.bias_of_each(attributes["bias_of"], num_biases, n)
    bias_indices = sorted({bias_of[i] for i in used} - {-1})
    place = {index: at for at, index in enumerate(bias_indices)} | {-1: -1}
    some = attributes | {
        "activations": names if len(names) == 1 else [names[i] for i in used],
        "bias_of": [place[bias_of[i]] for i in used],
        "trains_kernel": trains_kernel and [trains_kernel[i] for i in used],
    }
    return some, bias_indices


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
            results = composition.shared_matmul(inputs, kernel, biases, **attributes_of(op))
        targets = [x for x, needed in zip(inputs, needs_input, strict=True) if needed]
        targets += [kernel] * op.get_attr("num_kernel_grads")
        targets += biases if op.get_attr("num_bias_grads") else []
        used = outputs.asked_for(op.outputs, grads)
        # Zeros for a bias that no input uses and a kernel that none trains, as from the op.
        first_order = inner.gradient(
            results,
            [targets[i] for i in used],
            output_gradients=output_grads,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
    second_order = outer.gradient(first_order, sources, output_gradients=[grads[i] for i in used])
    return second_order + [None] * op.get_attr("num_saved")
