"""Which results of an op a loss uses.

An op with several results gets zeros from TensorFlow for the gradient of one that no loss uses, and
cannot tell them from zeros that somebody computed. So another op, the identity, stands behind each
result: its gradient runs only where there is one, and leaves a mark on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from shared_dense import compat, loader

# On a gradient: the ids of the results that it is the gradient of; several, where they are added.
_MARKS = "_shared_dense_marks"


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
    marked, unmarked = [], []
    for i, (result, grad) in enumerate(zip(results, grads, strict=True)):
        marks = getattr(grad, _MARKS, ())
        if id(result) in marks:
            marks.remove(id(result))
            marked.append(i)
        else:
            unmarked.append(i)
    if not marked:
        return list(range(len(results)))
    # A mark is lost where TensorFlow adds to a gradient: of a result that a while loop keeps, say,
    # for it is read by the gradient of this op, too.
    return sorted(marked + [i for i in unmarked if not _is_filled_in(grads[i])])


def _is_filled_in(grad: Any) -> bool:
    """Whether a gradient can be the zeros that TensorFlow fills in."""
    if not isinstance(grad, tf.Tensor):
        return False
    if tf.executing_eagerly():
        return not tf.reduce_any(grad != 0)
    if grad.op.type == "ZerosLike":
        return True
    value = grad.op.inputs[1] if grad.op.type == "Fill" else grad
    value = tf.get_static_value(value)
    return value is not None and not (value != 0).any()
