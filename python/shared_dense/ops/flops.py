"""FLOPs of the ops, for TensorFlow's profiler: those that it counts for plain reuse.

`library.load` imports this module once the op library is loaded.
"""

from __future__ import annotations

import tensorflow as tf

from shared_dense.ops import composition
from shared_dense.ops.gradients import attributes_of
from shared_dense.runtime import compat


def _placeholders(tensors) -> list[tf.Tensor]:
    """One like each, in the graph that is being made; what is the same tensor stays so."""
    made = {id(t): tf.compat.v1.placeholder(t.dtype, t.shape) for t in tensors}
    return [made[id(t)] for t in tensors]


def _counted(op: tf.Operation, inputs, kernel, biases, output_grads=None) -> int:
    """FLOPs of plain reuse on tensors of these shapes; given output_grads, of its gradient."""
    with tf.Graph().as_default() as graph, tf.GradientTape() as tape:
        xs, bs = _placeholders(inputs), _placeholders(biases)
        (w,) = _placeholders([kernel])
        wanted = []
        if output_grads is not None:
            needs = op.get_attr("needs_input_grad")
            wanted += [x for x, needed in zip(xs, needs, strict=True) if needed]
            wanted += [w] * op.get_attr("num_kernel_grads")
            wanted += bs if op.get_attr("num_bias_grads") else []
        tape.watch(wanted)
        ys = composition.shared_matmul(xs, w, bs, **attributes_of(op))
        forward = compat.flops_of(graph)
        if output_grads is None:
            return forward
        tape.gradient(ys, wanted, _placeholders(output_grads))
        return compat.flops_of(graph) - forward


def _shared_matmul(op: tf.Operation) -> int:
    n = op.get_attr("N")
    return _counted(op, op.inputs[:n], op.inputs[n], op.inputs[n + 1 :])


def _shared_matmul_grad(op: tf.Operation) -> int:
    n, num_biases = op.get_attr("N"), op.get_attr("B")
    biases = op.inputs[2 * n + 1 : 2 * n + 1 + num_biases]
    return _counted(op, op.inputs[n : 2 * n], op.inputs[2 * n], biases, op.inputs[:n])


compat.register_flops("SharedDense>SharedMatMul", _shared_matmul)
compat.register_flops("SharedDense>SharedMatMulGrad", _shared_matmul_grad)
