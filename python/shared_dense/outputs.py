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
    marked = []
    for i, (result, grad) in enumerate(zip(results, grads, strict=True)):
        marks = getattr(grad, _MARKS, ())
        if id(result) in marks:
            marks.remove(id(result))
            marked.append(i)
    return marked or list(range(len(results)))
