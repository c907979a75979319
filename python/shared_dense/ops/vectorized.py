"""How `tf.vectorized_map` and jacobians run the ops once for all iterations.

`library.load` imports this module once the op library is loaded. An operand differs from one
iteration to the next and has an axis of iterations in front, or it is the same in all. The ops take
inputs of any rank, so that axis means more rows; a kernel of each iteration means batched products
of TensorFlow's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from shared_dense.ops import composition
from shared_dense.ops.activations import NEED_PRE_ACTIVATION
from shared_dense.ops.gradients import attributes_of
from shared_dense.runtime import loader
from shared_dense.runtime.compat import Stacked, register_vectorized

# f'(z) from y = f(z), of the activations for which y determines it.
SLOPES = {
    "relu": lambda y: tf.cast(y > 0, y.dtype),
    "relu6": lambda y: tf.cast((y > 0) & (y < 6), y.dtype),
    "leaky_relu": lambda y: tf.where(y > 0, tf.ones_like(y), tf.constant(0.2, y.dtype)),
    "elu": lambda y: tf.where(y > 0, tf.ones_like(y), y + 1),
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: 1 - y * y,
}


def _slope(name: str, at: tf.Tensor) -> tf.Tensor:
    """f'(z), from y or (silu, gelu, gelu_tanh) from z."""
    if name in SLOPES:
        return SLOPES[name](at)
    with tf.GradientTape() as tape:
        tape.watch(at)
        y = composition.ACTIVATIONS[name](at)
    return tape.gradient(y, at)


def _handed_out(value: Stacked) -> Stacked:
    ops = loader.load().ops
    return value._replace(tensor=ops.shared_dense_shared_mat_mul_output(input=value.tensor))


def _rows(value: Stacked) -> tf.Tensor:
    """[..., width] as [rows, width], or with the axis of iterations in front of both."""
    first = int(value.stacked)
    shape = tf.shape(value.tensor)
    rows = tf.reduce_prod(shape[first:-1], keepdims=True)  # not -1: rows and width may be 0
    return tf.reshape(value.tensor, tf.concat([shape[:first], rows, shape[-1:]], 0))


def _batched_product(x: Stacked, kernel: tf.Tensor, transpose_kernel: bool) -> Stacked:
    kernel = tf.ensure_shape(kernel, [None] * 3)  # more axes would be more batches
    z = tf.matmul(_rows(x), kernel, transpose_b=transpose_kernel)
    axes = tf.shape(x.tensor)[int(x.stacked) : -1]
    shape = tf.concat([tf.shape(kernel)[:1], axes, tf.shape(z)[-1:]], 0)
    return Stacked(tf.reshape(z, shape), True)


def _add_bias(z: Stacked, bias: Stacked) -> Stacked:
    """Of a bias of `units` each; another would broadcast."""
    first, units = int(bias.stacked), tf.shape(z.tensor)[-1:]
    shape = tf.shape(bias.tensor)
    message = "bias must have shape [units]"
    with tf.control_dependencies([tf.debugging.assert_equal(shape[first:], units, message)]):
        # Of z's rank. XLA drops the assertion, not what these two ask for.
        b = tf.ensure_shape(bias.tensor, [None] * (first + 1))
        axes = tf.ones([first * (tf.rank(z.tensor) - int(z.stacked) - 1)], tf.int32)
        b = tf.reshape(b, tf.concat([shape[:first], axes, units], 0))
    return Stacked(z.tensor + b, z.stacked or bias.stacked)


def _products(
    xs: Sequence[Stacked],
    kernel: Stacked,
    biases: Sequence[Stacked],
    transpose_kernel: bool,
    bias_of: Sequence[int],
    trains_kernel: Sequence[bool],
) -> list[Stacked]:
    """xs[i] . kernel + bias, whatever is stacked."""
    if not xs:
        return []
    fused = not any(bias.stacked for bias in biases)
    if kernel.stacked:
        constant = tf.stop_gradient(kernel.tensor)
        zs = [
            _batched_product(
                x,
                kernel.tensor if trains_kernel[i] else constant,
                transpose_kernel,
            )
            for i, x in enumerate(xs)
        ]
    else:
        ops = loader.load().ops
        found = ops.shared_dense_shared_mat_mul(
            inputs=[x.tensor for x in xs],
            kernel=kernel.tensor,
            biases=[bias.tensor for bias in biases] if fused else [],
            activations=["linear"] * len(xs),
            transpose_kernel=transpose_kernel,
            bias_of=bias_of if fused else [-1] * len(xs),
            trains_kernel=trains_kernel,
        ).outputs
        zs = [Stacked(z, x.stacked) for z, x in zip(found, xs, strict=True)]
        if fused:
            return zs
    return [z if bias_of[i] < 0 else _add_bias(z, biases[bias_of[i]]) for i, z in enumerate(zs)]


def _forward(op, operands: list[Stacked]) -> list[Stacked]:
    """SharedMatMul."""
    n, num_kept = op.get_attr("N"), op.get_attr("num_pre_activations")
    xs, kernel, biases = operands[:n], operands[n], operands[n + 1 :]
    attributes = attributes_of(op)
    if not any(value.stacked for value in operands[n:]):
        outputs, kept = loader.load().ops.shared_dense_shared_mat_mul(
            inputs=[x.tensor for x in xs],
            kernel=kernel.tensor,
            biases=[bias.tensor for bias in biases],
            **attributes,
            num_pre_activations=num_kept,
        )
        return [
            Stacked(y, x.stacked)
            for results in (outputs, kept)
            for y, x in zip(results, xs if results else [], strict=True)
        ]
    names = attributes.pop("activations")
    zs = _products(xs, kernel, biases, **attributes)
    outputs = [
        Stacked(composition.ACTIVATIONS[name](z.tensor), z.stacked)
        for name, z in zip(names, zs, strict=True)
    ]
    return outputs + (zs if num_kept else [])


def _kernel_gradient(
    xs: Sequence[Stacked], dzs: Sequence[Stacked], kernel: Stacked, transpose_kernel: bool
) -> Stacked:
    """sum_i xs[i]^T . dzs[i], in the kernel's layout: one product per kind of pair."""
    if not xs:
        return Stacked(tf.zeros_like(kernel.tensor), kernel.stacked)
    groups: dict[tuple[bool, bool], list[int]] = {}
    for i, (x, dz) in enumerate(zip(xs, dzs, strict=True)):
        groups.setdefault((x.stacked, dz.stacked), []).append(i)
    parts = []
    for members in groups.values():
        x, dz = (tf.concat([_rows(side[i]) for i in members], -2) for side in (xs, dzs))
        left, right = (dz, x) if transpose_kernel else (x, dz)
        parts.append(tf.matmul(left, right, transpose_a=True))
    # `+` adds what is the same in all iterations to what is not.
    return Stacked(sum(parts[1:], parts[0]), any(any(kinds) for kinds in groups))


def _bias_gradient(dzs: Sequence[Stacked], bias: Stacked) -> Stacked:
    """The sum over the rows of the inputs that use a bias."""
    if not dzs:
        return Stacked(tf.zeros_like(bias.tensor), bias.stacked)
    parts = [tf.reduce_sum(_rows(dz), -2) for dz in dzs]
    return Stacked(sum(parts[1:], parts[0]), any(dz.stacked for dz in dzs))


def _backward(op, operands: list[Stacked]) -> list[Stacked]:
    """SharedMatMulGrad: each iteration has gradients of its own, those of kernel and biases too."""
    n, num_biases = op.get_attr("N"), op.get_attr("B")
    dys, xs, kernel = operands[:n], operands[n : 2 * n], operands[2 * n]
    biases = operands[2 * n + 1 : 2 * n + 1 + num_biases]
    saved = operands[2 * n + 1 + num_biases :]
    attributes = attributes_of(op)
    names, transpose_kernel = attributes["activations"], attributes["transpose_kernel"]
    bias_of, trains = attributes["bias_of"], attributes["trains_kernel"]

    def of_each(values, indices):
        return [values[i] for i in indices]

    # Made again, though `saved` has it: nothing is differentiated through a cache.
    made = [i for i, name in enumerate(names) if name in NEED_PRE_ACTIVATION]
    zs = _products(
        of_each(xs, made),
        kernel,
        biases,
        transpose_kernel,
        of_each(bias_of, made),
        of_each(trains, made),
    )
    pre_activations = dict(zip(made, zs, strict=True))
    dzs = []
    for i, (name, dy) in enumerate(zip(names, dys, strict=True)):
        if name == "linear":
            dzs.append(dy)
        else:
            # Second order flows through what is read of the outputs: it has to bear their mark.
            at = pre_activations[i] if i in pre_activations else _handed_out(saved[i])
            dz = dy.tensor * _slope(name, at.tensor)
            dzs.append(Stacked(dz, dy.stacked or at.stacked))

    needed = [i for i, flag in enumerate(op.get_attr("needs_input_grad")) if flag]
    result = _products(
        of_each(dzs, needed),
        kernel,
        [],
        not transpose_kernel,
        [-1] * len(needed),
        of_each(trains, needed),
    )
    if op.get_attr("num_kernel_grads"):
        train = [i for i in range(n) if trains[i]]
        result.append(
            _kernel_gradient(of_each(xs, train), of_each(dzs, train), kernel, transpose_kernel)
        )
    if op.get_attr("num_bias_grads"):
        users = [[] for _ in biases]
        for dz, index in zip(dzs, bias_of, strict=True):
            if index >= 0:
                users[index].append(dz)
        result += map(_bias_gradient, users, biases)
    return result


register_vectorized("SharedDense>SharedMatMul", _forward)
register_vectorized("SharedDense>SharedMatMulOutput", lambda _, operands: [_handed_out(*operands)])
register_vectorized("SharedDense>SharedMatMulGrad", _backward)
