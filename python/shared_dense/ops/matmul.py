"""shared_matmul: checks the operands, takes the op or its plain TensorFlow composition."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from shared_dense.ops import activations, composition, library, outputs
from shared_dense.runtime import compat, paths
from shared_dense.runtime.public import public

Activation = str | Callable | None


@public
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
    n = _count(inputs)
    if (
        not isinstance(bias, (list, tuple))
        and (activation is None or type(activation) is str)
        and type(trains_kernel) is type(transpose_kernel) is bool
    ):
        found = _alike(n, activation, bias is not None, trains_kernel, transpose_kernel)
        return _computed(inputs, kernel, [] if bias is None else [bias], *found)
    uses = _each(activation, n, "activation", "pass one, or one per input")
    return product(
        inputs,
        kernel,
        _each(
            bias,
            n,
            "bias",
            "pass one bias (a tensor of shape [units]), or a list with one per input",
        ),
        activations.resolve_each(uses),
        _each(trains_kernel, n, "trains_kernel", "pass True, False, or a list with one per input"),
        transpose_kernel,
    )


def product(
    inputs: Sequence[Any],
    kernel: Any,
    biases: Sequence[Any],
    uses: Sequence[activations.Resolved],
    trains_kernel: Sequence[bool],
    transpose_kernel: bool = False,
) -> list[tf.Tensor]:
    """shared_matmul, given one bias (or None), activation and flag for each input."""
    distinct, bias_of = _distinct(biases)
    attributes = _attributes(uses, bias_of, _flags(trains_kernel), transpose_kernel)
    return _computed(inputs, kernel, distinct, attributes, uses)


def _attributes(
    uses: Sequence[activations.Resolved],
    bias_of: list[int],
    trains_kernel: list[bool],
    transpose_kernel: bool,
) -> dict[str, Any]:
    return {
        "activations": [use.name for use in uses],
        "transpose_kernel": transpose_kernel,
        "bias_of": bias_of,
        "trains_kernel": trains_kernel,
    }


@functools.lru_cache(256)
def _alike(
    n: int, activation: str | None, has_bias: bool, trains_kernel: bool, transpose_kernel: bool
) -> tuple[dict[str, Any], list[activations.Resolved]]:
    """The attributes of n inputs that are treated alike, which take as long as a small call.

    Of names only: a function that is kept here would live as long as the process, and whatever it
    refers to; and one that equals it would get its place.
    """
    uses = [activations.resolve(activation)] * n
    bias_of = [0 if has_bias else -1] * n
    return _attributes(uses, bias_of, [trains_kernel] * n, transpose_kernel), uses


def _computed(
    inputs: Sequence[Any],
    kernel: Any,
    distinct: list[Any],
    attributes: dict[str, Any],
    uses: Sequence[activations.Resolved],
) -> list[tf.Tensor]:
    """The product of these biases and attributes, and what the op leaves to apply."""
    ys = _at_once(inputs, kernel, distinct, attributes)
    if ys is None:
        ys = _checked(inputs, kernel, distinct, attributes)
    if not any(use.after for use in uses):
        return ys
    return [use.after(y) if use.after else y for y, use in zip(ys, uses, strict=True)]


def _at_once(
    inputs: Sequence[Any], kernel: Any, biases: list[Any], attributes: dict[str, Any]
) -> list[tf.Tensor] | None:
    """By the op, which checks its operands itself; None where it does not take them as they are.

    To look at each of many tensors in Python takes longer than a small call. Where the op refuses
    them, `_checked` tells why in its own words.
    """
    if not (compat.all_eager(inputs) and compat.all_readable([kernel, *biases])):
        return None
    path, _ = paths.decide(compat.dtype_name(kernel), inputs, kernel, library.load)
    if path.name != "op" or not tf.executing_eagerly():
        return None
    try:
        ys = _by_op(inputs, kernel, biases, attributes)
    except (tf.errors.InvalidArgumentError, TypeError, ValueError):
        return None
    paths.remember(path)
    return ys


def _checked(
    inputs: Sequence[Any], kernel: Any, biases: list[Any], attributes: dict[str, Any]
) -> list[tf.Tensor]:
    kernel = _tensor(kernel, "kernel", None)
    xs = [_tensor(x, f"inputs[{i}]", kernel.dtype) for i, x in enumerate(inputs)]
    names = _bias_names(attributes["bias_of"])
    bs = [_tensor(b, name, kernel.dtype) for b, name in zip(biases, names, strict=True)]
    _check_shapes(xs, kernel, dict(zip(names, bs, strict=True)), attributes["transpose_kernel"])
    path = paths.choose(kernel.dtype.name, xs, kernel, library.load)
    if path.name == "op":
        return _by_op(xs, kernel, bs, attributes)
    is_export = isinstance(path, paths.ExportPath)
    plain = composition.concatenated if is_export else composition.shared_matmul
    return plain(xs, kernel, bs, **attributes)


def _by_op(
    xs: Sequence[tf.Tensor], kernel: Any, biases: list[Any], attributes: dict[str, Any]
) -> list[tf.Tensor]:
    """TensorFlow reads variables among the operands faster than Python can."""
    keep = compat.may_need_gradient() and not activations.NEED_PRE_ACTIVATION.isdisjoint(
        attributes["activations"]
    )
    with paths.placed():
        found = library.load().ops.shared_dense_shared_mat_mul(
            inputs=xs,
            kernel=kernel,
            biases=biases,
            **attributes,
            num_pre_activations=len(xs) if keep else 0,
        )
        return outputs.hand_out(found.outputs)


def _tensor(value: Any, name: str, dtype: tf.DType | None) -> tf.Tensor:
    if compat.all_eager((value,)) and (value.dtype == dtype if dtype else value.dtype.is_floating):
        return value
    if value is None:
        raise TypeError(f"{name} is None; pass a tensor")
    if isinstance(value, (tf.SparseTensor, tf.RaggedTensor, tf.IndexedSlices)):
        raise TypeError(
            f"{name} is a {type(value).__name__}; shared_matmul takes dense tensors "
            "(tf.sparse.to_dense, or the flat values of a ragged tensor)"
        )
    if type(value).__name__ == "KerasTensor" and type(value).__module__.startswith("keras."):
        raise TypeError(
            f"{name} is a symbolic tensor of Keras, which shared_matmul cannot compute with; in a "
            "model use the layer SharedDense, or call shared_matmul in a layer of your own"
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


def _count(inputs: Any) -> int:
    if not isinstance(inputs, (list, tuple)):
        raise TypeError(
            f"inputs must be a list or tuple of tensors, got {type(inputs).__name__}; for one "
            "tensor pass [tensor], for a dict list(inputs.values()), or use the layer SharedDense"
        )
    if not inputs:
        raise ValueError("inputs is empty; pass at least one tensor")
    return len(inputs)


def _each(value: Any, n: int, name: str, hint: str) -> Sequence[Any]:
    """One for each input, of one for all or a list."""
    if not isinstance(value, (list, tuple)):
        return [value] * n
    if len(value) != n:
        raise ValueError(f"{name} is a list of {len(value)}, but there are {n} inputs; {hint}")
    return value


def _distinct(biases: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The distinct biases, and for each input the index of its own, -1 for none.

    By identity: equal biases that are not the same one have gradients of their own.
    """
    distinct: list[Any] = []
    index_of = {id(None): -1}
    for bias in biases:
        if id(bias) not in index_of:
            index_of[id(bias)] = len(distinct)
            distinct.append(bias)
    return distinct, [index_of[id(bias)] for bias in biases]


def _bias_names(bias_of: list[int]) -> list[str]:
    """What the user calls each distinct bias: one for all inputs is no list."""
    count = len({*bias_of} - {-1})
    if count == 1 and -1 not in bias_of:
        return ["bias"]
    return [f"bias[{bias_of.index(i)}]" for i in range(count)]


def _flags(trains_kernel: Sequence[bool]) -> list[bool]:
    if not {*map(type, trains_kernel)} <= {bool, np.bool_}:
        one = all(flag is trains_kernel[0] for flag in trains_kernel)
        raise TypeError(
            "trains_kernel must be True, False, or a list of these, one per input; got "
            f"{trains_kernel[0] if one else list(trains_kernel)!r}"
        )
    return list(map(bool, trains_kernel))


def _check_shapes(
    xs: list[tf.Tensor], kernel: tf.Tensor, biases: dict[str, tf.Tensor], transpose_kernel: bool
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
    for name, bias in biases.items():
        if not bias.shape.is_compatible_with([units]):
            raise ValueError(
                f"{name} has shape {tuple(bias.shape)}, but the kernel {tuple(kernel.shape)} "
                f"takes biases of shape ({units},)"
            )
