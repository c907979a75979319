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

    from shared_dense.ops.activations import resolve_each
    from shared_dense.ops.matmul import product

    # One tensor per variable: what is the same bias to Keras is the same to the op. Read once.
    distinct = {id(b): b for b in biases if b is not None}
    values = _as_they_are(xs, [kernel, *distinct.values()])
    if values is None:
        composite = (tf.SparseTensor, tf.RaggedTensor)
        xs = [x if isinstance(x, composite) else tf.convert_to_tensor(x) for x in xs]
        values = [tf.convert_to_tensor(value) for value in (kernel, *distinct.values())]
        if any(isinstance(x, tf.SparseTensor) or _is_wider(x, values[0]) for x in xs):
            leave_to_keras("an input is sparse, or of a wider dtype than the layer")
            return None
        # Keras casts what its policy covers; Dense's matmul casts the rest, integers first.
        xs = [tf.cast(x, values[0].dtype) for x in xs]
    kernel, *values = values
    if not kernel.dtype.is_floating or any(value.dtype != kernel.dtype for value in values):
        leave_to_keras("the kernel is not of floats, or of another dtype than a bias")
        return None
    value_of = dict(zip(distinct, values, strict=True))
    return product(
        xs,
        kernel,
        [None if b is None else value_of[id(b)] for b in biases],
        resolve_each(activations, _resolve),
        trains_kernel,
        transpose_kernel,
    )


def _as_they_are(xs: Sequence[Any], weights: Sequence[Any]) -> list[Any] | None:
    """The weights as an eager op takes them at once; None unless it takes the inputs, too."""
    from shared_dense.runtime import compat

    if not compat.all_eager(xs):
        return None
    values = [w.value if isinstance(w, keras.Variable) else w for w in weights]
    fit = compat.all_readable(values) and compat.all_of_dtype(xs, values[0].dtype)
    return values if fit else None


def _resolve(activation: Callable | None) -> Any:
    """As shared_matmul, but that a sigmoid is left to apply.

    Keras finds the logits of a sigmoid behind its function or its TensorFlow op, and takes the
    stable form of the cross-entropy from them: fused, they would be gone and the loss another.
    """
    from shared_dense.ops.activations import Resolved, resolve

    resolved = resolve(activation)
    return Resolved("linear", activation) if resolved.name == "sigmoid" else resolved


def _is_wider(x: Any, kernel: Any) -> bool:
    """Whether Dense would compute in another dtype than the kernel's."""
    dtypes = x.dtype.name, kernel.dtype.name
    return dtypes[0] != dtypes[1] and keras.backend.result_type(*dtypes) != dtypes[1]


def leave_to_keras(reason: str) -> None:
    """Remembers for status() that Keras's own code computes, and why."""
    if keras.backend.backend() == "tensorflow":
        from shared_dense.runtime import paths

        paths.took_keras(reason)


def add_reason(reason: str) -> None:
    """Remembers for status() what else a layer did in its latest call."""
    if keras.backend.backend() == "tensorflow":
        from shared_dense.runtime import paths

        paths.add_reason(reason)
