"""Gradients of the ops. `library.load` imports this module once the op library is loaded."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from shared_dense.ops import composition, outputs
from shared_dense.ops.activations import NEED_PRE_ACTIVATION
from shared_dense.runtime import compat, loader, paths


def _registers(op: str) -> Callable[[Callable], Callable]:
    """`tf.RegisterGradient`, which refuses a second one; of a module imported again, the first's
    stays, and computes the same."""

    def register(function: Callable) -> Callable:
        with contextlib.suppress(KeyError):
            tf.RegisterGradient(op)(function)
        return function

    return register


def attributes_of(op) -> dict[str, Any]:
    """What both ops and the composition take, each list with one for each input.

    A graph of before may have one activation for all, no flags where all train the kernel, and no
    indices where biases are none, one, or one for each input.
    """
    n, num_biases = op.get_attr("N"), op.get_attr("B")
    names = [tf.compat.as_str(name) for name in op.get_attr("activations")]
    bias_of = op.get_attr("bias_of")
    if not bias_of:
        bias_of = list(range(n)) if num_biases > 1 else [num_biases - 1] * n
    return {
        "activations": names * n if len(names) == 1 else names,
        "transpose_kernel": op.get_attr("transpose_kernel"),
        "bias_of": bias_of,
        "trains_kernel": op.get_attr("trains_kernel") or [True] * n,
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
        attributes, bias_indices = _of_some(attributes, used)
    names = attributes["activations"]
    # An eager tape says what nobody will look at; a graph does not.
    skipped = frozenset(getattr(op, "skip_input_indices", None) or ())
    needs_input = [i not in skipped for i in used]
    needs_kernel = n not in skipped and any(attributes["trains_kernel"])
    needs_biases = any(n + 1 + i not in skipped for i in bias_indices)
    operands = {
        "inputs": [inputs[i] for i in used],
        "kernel": kernel,
        "biases": [biases[i] for i in bias_indices],
    }

    ops = loader.load().ops
    kept = op.outputs[n:] and [op.outputs[n + i] for i in used]
    if not kept and not NEED_PRE_ACTIVATION.isdisjoint(names):
        linear = attributes | {"activations": ["linear"] * len(used)}
        kept = ops.shared_dense_shared_mat_mul(**operands, **linear).outputs
    saved = []
    if any(name != "linear" for name in names):
        saved = [
            kept[i] if name in NEED_PRE_ACTIVATION else outputs.handed_out(op.outputs[used[i]])
            for i, name in enumerate(names)
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


def _of_some(attributes: dict[str, Any], used: list[int]) -> tuple[dict[str, Any], list[int]]:
    """The attributes of a call on some of its inputs, and the indices of the biases they use."""
    some = {
        name: [values[i] for i in used] if isinstance(values, list) else values
        for name, values in attributes.items()
    }
    bias_indices = sorted({*some["bias_of"]} - {-1})
    place = {index: at for at, index in enumerate(bias_indices)} | {-1: -1}
    return some | {"bias_of": [place[index] for index in some["bias_of"]]}, bias_indices


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
