"""The one file that touches private TensorFlow modules, each behind a guard."""

from __future__ import annotations

try:
    from tensorflow.python.eager.record import could_possibly_record as _could_possibly_record
except ImportError:  # moved or removed: assume the costlier answer
    _could_possibly_record = None


def may_need_gradient() -> bool:
    """Whether a tape is recording here, so that a gradient may be asked for.

    What a `tf.function` saw when it was traced stays in it: traced without a tape, or
    differentiated by `tf.gradients`, its gradient recomputes what was not kept (slower, never
    wrong); traced under one, it always keeps.
    """
    return True if _could_possibly_record is None else _could_possibly_record()
