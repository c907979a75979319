"""shared_matmul: checks the operands, takes the op or its plain TensorFlow composition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from shared_dense import activations, compat, composition, loader, outputs, paths

Activation = str | Callable | None


def shared_matmul(
    inputs: Sequence[Any],
    kernel: Any,
    bias: Any = None,
    activation: Activation | Sequence[Activation] = None,
    transpose_kernel: bool = False,
    trains_kernel: bool | Sequence[bool] = True,
) -> list[tf.Tensor]:
    """Applies one kernel to several inputs: `activation(inputs[i] @ kernel + bias)`.

    Differentiable in the inputs, the kernel and the biases, to any order; the backward pass makes
    one accumulated kernel gradient. A row of a result has the same bits whatever other rows or
    inputs share the call (on the op path).

    An output that a loss does not use takes no part in the gradients: of an input or a bias that
    only it uses they are None, as with plain reuse.

    Args:
        inputs: list or tuple of tensors `[..., in_features]`, each of any rank >= 1 and any number
            of rows, 0 included, in the dtype of the kernel. NumPy arrays and Python numbers are
            converted to it, as TensorFlow converts them beside a tensor.
        kernel: `[in_features, units]`, or `[units, in_features]` with `transpose_kernel`.
        bias: None, one `[units]` shared by all inputs, or a list with one `[units]` or None per
            input. The same tensor or variable more than once in the list is one bias, shared by
            those inputs.
        activation: None, a name (linear, relu, relu6, leaky_relu, elu, sigmoid, tanh, silu, gelu,
            gelu_tanh), a function, or a list of these, one per input. Names, and the functions of
            `tf.nn` and `keras.activations` they stand for, are fused; others are applied after.
            leaky_relu has slope 0.2, elu alpha 1; gelu is `z * Phi(z)` and gelu_tanh its
            approximation (Hendrycks and Gimpel, 2016).
        transpose_kernel: whether the kernel is stored transposed.
        trains_kernel: whether the inputs take part in the kernel's gradient: True, False, or a list
            of these, one per input. Of one that does not, the kernel counts as a constant
            (`tf.stop_gradient`), to any order, and nothing is computed for it; the gradients of
            that input and its bias flow. False for all: the kernel's gradient is None.

    Returns:
        List of tensors `[..., units]`, one per input.

    Raises:
        TypeError: `inputs` is no list or tuple, an entry is no dense tensor of the kernel's dtype,
            or `trains_kernel` is neither True nor False.
        ValueError: a shape, a count or an activation name does not fit; the message says which.
        tf.errors.InvalidArgumentError: the same, for shapes known only when the op runs.
    """
    kernel = _tensor(kernel, "kernel", None)
    xs = _inputs(inputs, kernel.dtype)
    biases, bias_of = _biases(bias, len(xs), kernel.dtype)
    fused, after = _activations(activation, len(xs))
    _check_shapes(xs, kernel, biases, bias_of, transpose_kernel)
    attributes = {
        "activations": fused,
        "transpose_kernel": transpose_kernel,
        "bias_of": bias_of,
        "trains_kernel": _trains_kernel(trains_kernel, len(xs)),
    }

    path = paths.choose(kernel.dtype.name, [*xs, kernel])
    if path.name == "op":
        ops = loader.load().ops
        keep = compat.may_need_gradient() and _need_pre_activation(fused)
        with paths.placed():
            found = ops.shared_dense_shared_mat_mul(
                inputs=xs,
                kernel=kernel,
                biases=biases,
                **attributes,
                num_pre_activations=len(xs) if keep else 0,
            ).outputs
            ys = outputs.hand_out(found)
    else:
        is_export = isinstance(path, paths.ExportPath)
        plain = composition.concatenated if is_export else composition.shared_matmul
        ys = plain(xs, kernel, biases, **attributes)
    return [y if function is None else function(y) for y, function in zip(ys, after, strict=True)]


def _need_pre_activation(names: Sequence[str]) -> bool:
    from shared_dense.gradients import NEED_PRE_ACTIVATION

    return not NEED_PRE_ACTIVATION.isdisjoint(names)


def _tensor(value: Any, name: str, dtype: tf.DType | None) -> tf.Tensor:
    if value is None:
        raise TypeError(f"{name} is None; pass a tensor")
    if isinstance(value, (tf.SparseTensor, tf.RaggedTensor, tf.IndexedSlices)):
        raise TypeError(
            f"{name} is a {type(value).__name__}; shared_matmul takes dense tensors "
            "(tf.sparse.to_dense, or the flat values of a ragged tensor)"
        )
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        raise TypeError(
            f"{name} is a NumPy array of objects, which an array becomes whose rows differ in "
            "length; pass an array of numbers"
        )
    try:
        tensor = tf.convert_to_tensor(value, dtype_hint=dtype)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} is a {type(value).__name__} that makes no tensor ({error}); pass a tensor or "
            "an array of numbers"
        ) from None
    if dtype is not None and tensor.dtype != dtype:
        raise TypeError(
            f"{name} has dtype {tensor.dtype.name}, but the kernel has {dtype.name}; cast one: "
            "tf.cast"
        )
    if dtype is None and not tensor.dtype.is_floating:
        raise TypeError(f"{name} has dtype {tensor.dtype.name}; pass a floating-point tensor")
    return tensor


def _inputs(inputs: Any, dtype: tf.DType) -> list[tf.Tensor]:
    if not isinstance(inputs, (list, tuple)):
        raise TypeError(
            f"inputs must be a list or tuple of tensors, got {type(inputs).__name__}; for one "
            "tensor pass [tensor], for a dict list(inputs.values()), or use the layer SharedDense"
        )
    if not inputs:
        raise ValueError("inputs is empty; pass at least one tensor")
    return [_tensor(x, f"inputs[{i}]", dtype) for i, x in enumerate(inputs)]


def _biases(bias: Any, n: int, dtype: tf.DType) -> tuple[list[tf.Tensor], list[int]]:
    """The distinct biases, and which of them each input uses, as the op takes both."""
    if bias is None:
        return [], []
    if not isinstance(bias, (list, tuple)):
        return [_tensor(bias, "bias", dtype)], []
    if len(bias) != n:
        raise ValueError(
            f"bias is a list of {len(bias)}, but there are {n} inputs; pass one bias (a tensor of "
            "shape [units]), or a list with one per input"
        )
    # By identity: equal biases that are not the same one have gradients of their own.
    biases: list[tf.Tensor] = []
    index_of = {id(None): -1}
    for i, b in enumerate(bias):
        if id(b) not in index_of:
            index_of[id(b)] = len(biases)
            biases.append(_tensor(b, f"bias[{i}]", dtype))
    return biases, [index_of[id(b)] for b in bias]


def _trains_kernel(trains: bool | Sequence[bool], n: int) -> list[bool]:
    """One per input, or nothing where all do, as the op takes it."""
    flags = list(trains) if isinstance(trains, (list, tuple)) else [trains] * n
    if len(flags) != n:
        raise ValueError(
            f"trains_kernel is a list of {len(flags)}, but there are {n} inputs; pass True, False, "
            "or a list with one per input"
        )
    for flag in flags:
        if not isinstance(flag, (bool, np.bool_)):
            raise TypeError(
                "trains_kernel must be True, False, or a list of these, one per input; got "
                f"{trains!r}"
            )
    return [] if all(flags) else [bool(flag) for flag in flags]


def _activations(
    activation: Activation | Sequence[Activation], n: int
) -> tuple[list[str], list[Callable | None]]:
    """Names for the op (one, or one per input) and what is left to apply per output."""
    if not isinstance(activation, (list, tuple)):
        name, after = activations.resolve(activation)
        return [name], [after] * n
    if len(activation) != n:
        raise ValueError(
            f"activation is a list of {len(activation)}, but there are {n} inputs; pass one, or "
            "one per input"
        )
    resolved = [activations.resolve(a) for a in activation]
    return [name for name, _ in resolved], [after for _, after in resolved]


def _check_shapes(
    xs: list[tf.Tensor],
    kernel: tf.Tensor,
    biases: list[tf.Tensor],
    bias_of: list[int],
    transpose_kernel: bool,
) -> None:
    """Raises ValueError for what static shapes already show to be wrong, on any path."""
    if kernel.shape.rank is None:
        kernel.set_shape([None, None])
    if kernel.shape.rank != 2:
        raise ValueError(
            f"kernel must have rank 2, [in_features, units]; got shape {tuple(kernel.shape)}"
        )
    in_features, units = reversed(kernel.shape) if transpose_kernel else kernel.shape
    for i, x in enumerate(xs):
        if x.shape.rank == 0:
            raise ValueError(f"inputs[{i}] is a scalar; its rank must be >= 1")
        if x.shape.rank is not None and None not in (x.shape[-1], in_features):
            if x.shape[-1] == in_features:
                continue
            raise ValueError(
                f"inputs[{i}] has shape {tuple(x.shape)}, but the kernel {tuple(kernel.shape)}"
                f"{' (transposed)' if transpose_kernel else ''} takes inputs whose last axis is "
                f"{in_features}. One kernel is shared among inputs of one width."
            )
    for i, bias in enumerate(biases):
        if not bias.shape.is_compatible_with([units]):
            name = f"bias[{bias_of.index(i)}]" if bias_of else "bias"
            raise ValueError(
                f"{name} has shape {tuple(bias.shape)}, but the kernel {tuple(kernel.shape)} "
                f"takes biases of shape ({units},)"
            )
