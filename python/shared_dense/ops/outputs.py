"""Which results of an op a loss uses.

An op with several results gets zeros from TensorFlow for the gradient of one that no loss uses, and
cannot tell them from zeros that somebody computed. So another op, the identity, stands behind each
result: its gradient runs only where there is one, and leaves a mark on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from shared_dense.runtime import compat, loader

# On a gradient: the ids of the results that it is the gradient of; several, where they are added.
_MARKS = "_shared_dense_marks"
_SUMS = ("Add", "AddN", "AddV2", "Identity")
_DEPTH = 3  # of sums in sums that are looked through


def hand_out(results: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The results of one op as others may use them.

    One result alone needs no mark: the gradient of its op runs only where it has one. Neither do
    results outside of graphs that no tape sees; who differentiates a graph is not known before.
    """
    recorded = not tf.executing_eagerly() or compat.may_need_gradient()
    if len(results) < 2 or not recorded:
        return list(results)
    ops = loader.load().ops
    return [ops.shared_dense_shared_mat_mul_output(input=result) for result in results]


def handed_out(result: tf.Tensor) -> tf.Tensor:
    """What stands for a result elsewhere in its graph; the result itself outside of graphs.

    A compiled function that gave away both would give away one tensor twice, which XLA does badly
    where only the compiled code knows its size.
    """
    if not hasattr(result, "numpy"):
        for op in result.consumers():
            if op.type == "SharedDense>SharedMatMulOutput":
                return op.outputs[0]
    return result


def mark(grad: Any, result: tf.Tensor) -> None:
    """Says of a gradient that it is this result's."""
    marks = getattr(grad, _MARKS, None)
    if marks is None:
        setattr(grad, _MARKS, {id(result)})
    else:
        marks.add(id(result))


def asked_for(results: Sequence[tf.Tensor], grads: Sequence[Any]) -> list[int]:
    """The indices of the results that have a gradient; all, where no result was handed out.

    Takes the marks away: TensorFlow keeps small tensors of ones and zeros, which come again.
    """
    every = list(range(len(results)))
    if len(results) < 2:
        return every
    marked = [i for i in every if _take_mark(grads[i], id(results[i]))]
    chosen = set(marked)
    return [i for i in every if i in chosen or not _is_filled_in(grads[i])] if marked else every


def _parts(grad: Any, depth: int) -> list[Any]:
    """What a gradient of a graph is the sum of; none where it is no sum.

    TensorFlow adds to the gradient of a result that it keeps for later: in a loop, or for a tape
    that may be asked again.
    """
    symbolic = isinstance(grad, tf.Tensor) and not hasattr(grad, "numpy")
    return list(grad.op.inputs) if symbolic and depth and grad.op.type in _SUMS else []


def _take_mark(grad: Any, result: int, depth: int = _DEPTH) -> bool:
    marks = getattr(grad, _MARKS, ())
    if result in marks:
        marks.remove(result)
        return True
    return any(_take_mark(part, result, depth - 1) for part in _parts(grad, depth))


def _is_filled_in(grad: Any, depth: int = _DEPTH) -> bool:
    """Whether a gradient without a mark can be the zeros that TensorFlow fills in.

    Whoever uses a result got it from `hand_out`. So what comes without a mark from outside of a
    function comes from TensorFlow, too.
    """
    if not isinstance(grad, tf.Tensor):
        return False
    if hasattr(grad, "numpy"):
        return not tf.reduce_any(grad != 0)
    parts = _parts(grad, depth)
    if parts:
        return all(_is_filled_in(part, depth - 1) for part in parts)
    if grad.op.type in ("Placeholder", "ZerosLike"):
        return True
    value = grad.op.inputs[1] if grad.op.type == "Fill" else grad
    value = tf.get_static_value(value)
    return value is not None and not (value != 0).any()
