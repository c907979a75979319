"""What the layers compute, on any Keras backend: one kernel, several inputs, one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras


def dense_call(
    xs: Sequence[Any],
    kernel: Any,
    biases: Sequence[Any],
    activations: Sequence[Callable | None],
    *,
    transpose_kernel: bool = False,
    trains_kernel: Sequence[bool] | None = None,
) -> list[Any]:
    """`activations[i](xs[i] @ kernel + biases[i])`, as keras.layers.Dense computes it.

    On TensorFlow that is one `shared_matmul`. Keras's own operations compute it on other backends,
    where an input is sparse or (with `autocast=False`) of a wider dtype than the kernel's, and
    where the kernel is not of floats or of another dtype than a bias.

    Args:
        xs: tensors `[..., in_features]`.
        kernel: variable or tensor `[in_features, units]`; `[units, in_features]` if
            `transpose_kernel`.
        biases: one `[units]` or None per input; the same variable may come several times.
        activations: one function or None per input.
        trains_kernel: one per input, whether its gradient reaches the kernel; None: all do.
    """
    trains_kernel = trains_kernel or [True] * len(xs)
    if keras.backend.backend() == "tensorflow":
        fused = _fused(xs, kernel, biases, activations, transpose_kernel, trains_kernel)
        if fused is not None:
            return fused
    kernel = keras.ops.convert_to_tensor(kernel)
    if transpose_kernel:
        kernel = keras.ops.transpose(kernel)
    return [
        _apart(x, kernel if trains else keras.ops.stop_gradient(kernel), bias, activation)
        for x, bias, activation, trains in zip(xs, biases, activations, trains_kernel, strict=True)
    ]


def _apart(x: Any, kernel: Any, bias: Any, activation: Callable | None) -> Any:
    y = keras.ops.matmul(x, kernel)
    if bias is not None:
        y = keras.ops.add(y, bias)
    return y if activation is None else activation(y)


def _fused(
    xs: Sequence[Any],
    kernel: Any,
    biases: Sequence[Any],
    activations: Sequence[Callable | None],
    transpose_kernel: bool,
    trains_kernel: Sequence[bool],
) -> list[Any] | None:
    """By shared_matmul; None where that does not compute what Dense does."""
    import tensorflow as tf

    from shared_dense.activations import resolve
    from shared_dense.ops import shared_matmul

    composite = (tf.SparseTensor, tf.RaggedTensor)
    xs = [x if isinstance(x, composite) else tf.convert_to_tensor(x) for x in xs]
    kernel = tf.convert_to_tensor(kernel)
    # One tensor per variable: what is the same bias to Keras is the same to the op. Read once.
    distinct = {id(b): b for b in biases if b is not None}
    tensors = {key: tf.convert_to_tensor(b) for key, b in distinct.items()}
    if any(isinstance(x, tf.SparseTensor) or _is_wider(x, kernel) for x in xs):
        leave_to_keras("an input is sparse, or of a wider dtype than the layer")
        return None
    if not kernel.dtype.is_floating or any(b.dtype != kernel.dtype for b in tensors.values()):
        leave_to_keras("the kernel is not of floats, or of another dtype than a bias")
        return None
    # Keras finds the logits of a sigmoid behind its function or its TensorFlow op, and takes the
    # stable form of the cross-entropy from them: fused, they would be gone and the loss another.
    apart = [a if resolve(a)[0] == "sigmoid" else None for a in activations]
    outputs = shared_matmul(
        # Keras casts what its policy covers; Dense's matmul casts the rest, integers first.
        [tf.cast(x, kernel.dtype) for x in xs],
        kernel,
        _one_or_each([None if b is None else tensors[id(b)] for b in biases]),
        activation=_one_or_each(
            [None if late is not None else a for a, late in zip(activations, apart, strict=True)]
        ),
        transpose_kernel=transpose_kernel,
        trains_kernel=list(trains_kernel),
    )
    return [y if late is None else late(y) for y, late in zip(outputs, apart, strict=True)]


def _one_or_each(values: list[Any]) -> Any:
    """One for all inputs, where it is the same for all: the op then takes one."""
    return values[0] if all(value is values[0] for value in values) else values


def _is_wider(x: Any, kernel: Any) -> bool:
    """Whether Dense would compute in another dtype than the kernel's."""
    dtypes = x.dtype.name, kernel.dtype.name
    return dtypes[0] != dtypes[1] and keras.backend.result_type(*dtypes) != dtypes[1]


def leave_to_keras(reason: str) -> None:
    """Remembers for status() that Keras's own code computes, and why."""
    if keras.backend.backend() == "tensorflow":
        from shared_dense import paths

        paths.took_keras(reason)


def add_reason(reason: str) -> None:
    """Remembers for status() what else a layer did in its latest call."""
    if keras.backend.backend() == "tensorflow":
        from shared_dense import paths

        paths.add_reason(reason)
