"""The same product in plain TensorFlow ops: fallback, exported form, and what second order uses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import tensorflow as tf


def _leaky_relu(z: tf.Tensor) -> tf.Tensor:
    # TensorFlow's op holds its slope in float32: 0.2 to seven digits in a float64 model.
    return tf.where(z > 0, z, 0.2 * z) if z.dtype == tf.float64 else tf.nn.leaky_relu(z)


def _gelu(z: tf.Tensor, approximate: bool = False) -> tf.Tensor:
    # Likewise tf.nn.gelu, whose constants pass through float32.
    if z.dtype != tf.float64:
        return tf.nn.gelu(z, approximate=approximate)
    if approximate:
        return 0.5 * z * (1 + tf.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z * z * z)))
    return 0.5 * z * tf.math.erfc(-math.sqrt(0.5) * z)


# By the names the op knows. Slopes and alphas are the defaults of both TensorFlow and Keras.
ACTIVATIONS: dict[str, Callable] = {
    "linear": lambda z: z,
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "leaky_relu": _leaky_relu,
    "elu": tf.nn.elu,
    "sigmoid": tf.math.sigmoid,
    "tanh": tf.math.tanh,
    "silu": tf.nn.silu,
    "gelu": _gelu,
    "gelu_tanh": lambda z: _gelu(z, approximate=True),
}


# Of ops that other runtimes have: ONNX has no Erfc, which tf.nn.gelu is made of, and the IdentityN
# of tf.nn.silu's own gradient becomes an output of its own in OpenVINO.
EXPORTED = ACTIVATIONS | {
    "silu": lambda z: z * tf.math.sigmoid(z),
    "gelu": lambda z: 0.5 * z * (1 + tf.math.erf(math.sqrt(0.5) * z)),
}


def matmul(x: tf.Tensor, kernel: tf.Tensor, transpose_kernel: bool) -> tf.Tensor:
    """Product over the last axis of `x`, of any rank >= 1."""
    if kernel.shape.is_fully_defined() and 0 in kernel.shape:
        # A sum of nothing: oneDNN, with which grappler would fuse the bias, takes no empty matrix.
        kernel = tf.transpose(kernel) if transpose_kernel else kernel
        return tf.reduce_sum(x[..., None] * kernel, -2)
    if x.shape.rank == 2:
        return tf.matmul(x, kernel, transpose_b=transpose_kernel)
    return tf.tensordot(x, kernel, axes=[[-1], [1 if transpose_kernel else 0]])


def _vector(bias: tf.Tensor, kernel: tf.Tensor, transpose_kernel: bool) -> tf.Tensor:
    """A bias that is a vector of `units`; another would broadcast, or abort inside BiasAdd."""
    axis = 0 if transpose_kernel else 1
    if bias.shape.is_fully_defined() and kernel.shape[axis] is not None:
        return bias  # the two were compared
    bias = tf.ensure_shape(bias, [None])
    units = tf.shape(kernel)[axis]
    message = "bias must have shape [units]"
    with tf.control_dependencies([tf.debugging.assert_equal(tf.size(bias), units, message)]):
        return tf.identity(bias)


def shared_matmul(
    inputs: Sequence[tf.Tensor],
    kernel: tf.Tensor,
    biases: Sequence[tf.Tensor],
    activations: Sequence[str],
    transpose_kernel: bool,
    bias_of: Sequence[int],
    trains_kernel: Sequence[bool],
    functions: dict[str, Callable] = ACTIVATIONS,
) -> list[tf.Tensor]:
    """Plain reuse: a matmul, a bias and an activation per input.

    Args:
        inputs: as the op's.
        kernel: as the op's.
        biases: as the op's.
        activations: a name for each input.
        transpose_kernel: as the op's.
        bias_of: for each input the index of its bias, -1 for none.
        trains_kernel: a flag for each input.
        functions: what the names stand for.
    """
    biases = [_vector(b, kernel, transpose_kernel) for b in biases]
    outputs = []
    for x, name, b, trains in zip(inputs, activations, bias_of, trains_kernel, strict=True):
        z = matmul(x, kernel if trains else tf.stop_gradient(kernel), transpose_kernel)
        if b >= 0:
            bias = biases[b]
            # Grappler fuses BiasAdd, not +, into the matmul; but BiasAdd wants rank >= 2, and a
            # kernel of unknown size may be empty.
            fuses = kernel.shape.is_fully_defined() and (z.shape.rank or 0) >= 2
            z = tf.nn.bias_add(z, bias) if fuses else z + bias
        outputs.append(functions[name](z))
    return outputs


def concatenated(
    inputs: Sequence[tf.Tensor],
    kernel: tf.Tensor,
    biases: Sequence[tf.Tensor],
    activations: Sequence[str],
    transpose_kernel: bool,
    bias_of: Sequence[int],
    trains_kernel: Sequence[bool],
) -> list[tf.Tensor]:
    """One product over the rows of all inputs, and slices of it: the form for other runtimes.

    They lay a kernel out anew for each product that reads it. What does not train the kernel has a
    product of its own, of a constant. Arguments as of `shared_matmul`.
    """
    outputs = [None] * len(inputs)
    for flag in dict.fromkeys(trains_kernel):
        places = [i for i, trains in enumerate(trains_kernel) if trains == flag]
        xs = [inputs[i] for i in places]
        uses = {(bias_of[i], activations[i]) for i in places}
        all_alike = len(uses) == 1
        bias, name = uses.pop() if all_alike else (-1, "linear")
        rows = xs[0] if len(xs) == 1 else tf.concat([_rows(x) for x in xs], 0)
        own = [biases[bias]] if bias >= 0 else []
        (found,) = shared_matmul(
            [rows], kernel, own, [name], transpose_kernel, [min(bias, 0)], [flag], EXPORTED
        )
        for i, y in zip(places, _parts(found, xs), strict=True):
            if not all_alike:
                y = y + biases[bias_of[i]] if bias_of[i] >= 0 else y
                y = EXPORTED[activations[i]](y)
            outputs[i] = y
    return outputs


def _rows(x: tf.Tensor) -> tf.Tensor:
    return x if x.shape.rank == 2 else tf.reshape(x, [-1, tf.shape(x)[-1]])


def _parts(stacked: tf.Tensor, xs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The results of the inputs, in their shapes, of one of their stacked rows."""
    if len(xs) == 1:
        return [stacked]
    parts, start = [], 0
    for x in xs:
        leading = x.shape[:-1]
        known = leading.num_elements() if leading.rank is not None else None
        stop = start + (tf.reduce_prod(tf.shape(x)[:-1]) if known is None else known)
        y = stacked[start:stop]
        if leading.rank != 1:
            y = tf.reshape(y, tf.concat([tf.shape(x)[:-1], tf.shape(stacked)[1:]], 0))
        y.set_shape(leading.concatenate(stacked.shape[1:]))
        parts.append(y)
        start = stop
    return parts
