"""The one file that touches private TensorFlow modules, each behind a guard."""

from __future__ import annotations

try:
    from tensorflow.python.eager.record import could_possibly_record as _could_possibly_record
except ImportError:  # moved or removed: assume the costlier answer
    _could_possibly_record = None

try:
    from tensorflow.python.framework.ops import get_default_graph as _get_default_graph
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext as _in_xla
except ImportError:
    _in_xla = None

try:
    from tensorflow.python.framework.op_def_registry import get as _op_def
except ImportError:
    _op_def = None


def xla_compiles() -> bool:
    """Whether the function traced here is one that XLA compiles (`jit_compile=True`).

    Where TensorFlow cannot be asked: False. The op is then traced as for any function, which is
    right as long as the library that lowers it is there; without, XLA says that it knows no such
    op.
    """
    return _in_xla is not None and _in_xla(_get_default_graph())


def may_need_gradient() -> bool:
    """Whether a tape is recording here, so that a gradient may be asked for.

    What a `tf.function` saw when it was traced stays in it: traced without a tape, or
    differentiated by `tf.gradients`, its gradient recomputes what was not kept (slower, never
    wrong); traced under one, it always keeps.
    """
    return True if _could_possibly_record is None else _could_possibly_record()


def is_registered(op: str) -> bool:
    """Whether TensorFlow knows an op of this name.

    Where it cannot be asked: False. A second copy of the library is then opened, which registers
    the kernels twice, so that TensorFlow refuses the calls of both.
    """
    return _op_def is not None and _op_def(op) is not None
