"""The one file that touches private modules of TensorFlow, each behind a guard."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

try:
    from tensorflow.python.framework.ops import EagerTensor as _EagerTensor
    from tensorflow.python.ops.resource_variable_ops import ResourceVariable as _Variable

    # What `dtype` and `shape` are made of, an object of Python each time.
    _shape_of, _dtype_of = _EagerTensor._shape_tuple, _EagerTensor._datatype_enum
except (ImportError, AttributeError):
    _EagerTensor = None

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
    from tensorflow.python.ops.parallel_for import pfor as _pfor

    _register_pfor, _wrap = _pfor.RegisterPFor, _pfor.wrap
except (ImportError, AttributeError):
    _register_pfor = None

try:
    from tensorflow.python.framework.op_def_registry import get as _op_def
except ImportError:
    _op_def = None

try:
    from tensorflow.python.framework import ops as _ops
    from tensorflow.python.profiler.internal import flops_registry as _of_other_ops  # noqa: F401

    _stats_of, _OpStats, _Register = (
        _ops.get_stats_for_node_def,
        _ops.OpStats,
        _ops.RegisterStatistics,
    )
except (ImportError, AttributeError):
    _Register = None

# Modules that trace a model to write it for a runtime that knows no op of ours.
EXPORTERS = {
    "ai_edge_litert": "LiteRT",
    "keras.src.export.litert": "LiteRT",
    "keras.src.export.onnx": "ONNX",
    "keras.src.export.openvino": "OpenVINO",
    "openvino": "OpenVINO",
    "tensorflow.lite": "LiteRT",
    "tensorflowjs": "TensorFlow.js",
    "tf2onnx": "ONNX",
}


class Stacked(NamedTuple):
    """A tensor inside `tf.vectorized_map`: with an axis of iterations in front, or the same in all.

    tensor: [iterations, ...] if `stacked`, else [...].
    """

    tensor: Any
    stacked: bool


def all_eager(values: Iterable[Any]) -> bool:
    """Whether these are all tensors outside of graphs; False where TensorFlow cannot be asked."""
    return _EagerTensor is not None and {*map(type, values)} == {_EagerTensor}


def all_readable(values: Iterable[Any]) -> bool:
    """Whether these are tensors outside of graphs or plain variables, as ops take them."""
    return {*map(type, values)} <= {_EagerTensor, _Variable}


@functools.cache
def _dtype_name(enum: int) -> str:
    import tensorflow as tf

    return tf.as_dtype(enum).name


def dtype_name(value: Any) -> str:
    """The name of the dtype of a tensor or variable for which `all_readable` holds."""
    return _dtype_name(_dtype_of(value)) if type(value) is _EagerTensor else value.dtype.name


def all_of_dtype(tensors: Iterable[Any], dtype: Any) -> bool:
    """Whether tensors for which `all_eager` holds have this dtype."""
    return {*map(_dtype_of, tensors)} <= {dtype.as_datatype_enum}


def shapes(tensors: Iterable[Any]) -> Iterator[tuple[int, ...]]:
    """The shapes of tensors for which `all_eager` holds."""
    return map(_shape_of, tensors)


def register_vectorized(
    op_type: str, convert: Callable[[Any, list[Stacked]], list[Stacked]]
) -> None:
    """Tells TensorFlow's parallel for (vectorized_map, jacobian) how to run an op once for all.

    `convert(op, operands)` gives the op's outputs. Where TensorFlow has no such registry, it runs
    the op in a loop and warns of that: slower, never wrong.
    """
    if _register_pfor is None:
        return

    def converter(pfor_input):
        operands = [Stacked(value.t, value.is_stacked) for value in pfor_input.inputs]
        return [_wrap(*value) for value in convert(pfor_input.op, operands)]

    with contextlib.suppress(AssertionError):  # of a module imported again, the first's stays
        _register_pfor(op_type)(converter)


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


def register_flops(op_type: str, count: Callable[[Any], int]) -> None:
    """Tells TensorFlow's profiler how many FLOPs an operation of this type takes.

    Where TensorFlow has no such registry, its profiler goes on counting 0.
    """
    if _Register is None:
        return

    def statistics(graph, node):
        return _OpStats("flops", count(graph.get_operation_by_name(node.name)))

    with contextlib.suppress(KeyError):  # of a module imported again, the first's stays
        _Register(op_type, "flops")(statistics)


def flops_of(graph: Any) -> int:
    """FLOPs of a graph's operations, but for those of unknown kind or size."""
    found = 0
    for op in graph.get_operations():
        with contextlib.suppress(ValueError):  # a size is unknown
            found += _stats_of(graph, op.node_def, "flops").value or 0
    return found
