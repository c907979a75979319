"""What every program of the fuzz harness begins with: its text is printed in front of the case's.

A case defines `f(product, *sources)`. Here is what evaluates it to every order and in every
mode, and `plain`, a product to compare with: a matmul, a bias and an activation per input.
"""

from __future__ import annotations

import math
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import tensorflow as tf

ZERO = tf.UnconnectedGradients.ZERO


def gelu_tanh(z, tanh=tf.tanh):
    return 0.5 * z * (1 + tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z * z * z)))


# Constants in the type of z: those of tf.nn's gelu and leaky_relu pass through float32.
PLAIN = {
    None: tf.identity,
    "linear": tf.identity,
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "leaky_relu": lambda z: tf.where(z > 0, z, 0.2 * z),
    "elu": tf.nn.elu,
    "sigmoid": tf.sigmoid,
    "tanh": tf.tanh,
    "silu": lambda z: z * tf.sigmoid(z),
    "gelu": lambda z: 0.5 * z * tf.math.erfc(-math.sqrt(0.5) * z),
    "gelu_tanh": gelu_tanh,
}


def bent(z):
    """An activation that nobody fuses."""
    return z + tf.sin(z)


def mask(*flags):
    """A constant from outside the function that uses it: XLA does not know how many are set."""
    with tf.init_scope():
        return tf.constant([bool(flag) for flag in flags])


def each(value, n):
    return list(value) if isinstance(value, (list, tuple)) else [value] * n


def sum_of_products(x, kernel, transposed):
    if x.shape.rank == 2:
        return tf.matmul(x, kernel, transpose_b=transposed)
    return tf.tensordot(x, kernel, [[-1], [int(transposed)]])


def plain(inputs, kernel, bias=None, activation=None, transpose_kernel=False, trains_kernel=True):
    """Plain reuse, in the words of shared_matmul."""
    n, outputs = len(inputs), []
    choices = zip(inputs, each(bias, n), each(activation, n), each(trains_kernel, n), strict=True)
    for x, b, a, trains in choices:
        w = tf.convert_to_tensor(kernel)
        z = sum_of_products(x, w if trains else tf.stop_gradient(w), transpose_kernel)
        z = z if b is None else z + b
        outputs.append((a if callable(a) else PLAIN[a])(z))
    return outputs


def loss_of(outputs, weights, square):
    """A number: the outputs weighted, their squares too where the program wants a bent loss."""
    terms = [tf.reduce_sum(y * tf.cast(c, y.dtype)) for y, c in zip(outputs, weights, strict=True)]
    terms += [tf.reduce_sum(y * y) / 2 for y in outputs] if square else []
    return tf.add_n(terms)


def contracted(gradients, along):
    terms = [
        tf.reduce_sum(g * tf.cast(v, g.dtype)) + tf.reduce_sum(g * g) / 4
        for g, v in zip(gradients, along, strict=True)
        if g is not None
    ]
    return tf.add_n(terms)


def dense(gradients):
    return [None if g is None else tf.convert_to_tensor(g) for g in gradients]


def filled(gradients, sources):
    return [tf.zeros_like(s) if g is None else g for g, s in zip(gradients, sources, strict=True)]


def evaluate(order, f, sources, weights, along, square):
    """The results of one order: tensors, or None where there is no gradient."""

    def gradients(wanted=sources):
        with tf.GradientTape() as tape:
            tape.watch(wanted)
            loss = loss_of(f(*sources), weights, square)
        return dense(tape.gradient(loss, wanted))

    def tangents():
        return [tf.cast(v, s.dtype) for v, s in zip(along, sources, strict=True)]

    if order == "outputs":
        return list(f(*sources))
    if order == "gradient":
        return gradients()
    if order == "cancelled":  # the bias's, which comes last
        return gradients(sources[-1:])
    if order.startswith("gradient in "):  # some sources, by their numbers
        return gradients([sources[int(i)] for i in order.split()[2:]])
    if order == "second":
        with tf.GradientTape() as tape:
            tape.watch(sources)
            first = gradients()
            scalar = contracted(filled(first, sources), along)
        return first + filled(dense(tape.gradient(scalar, sources)), sources)
    if order == "jvp":
        with tf.autodiff.ForwardAccumulator(sources, tangents()) as forward:
            outputs = list(f(*sources))
        return outputs + list(forward.jvp(outputs, ZERO))
    if order == "jvp of gradient":
        with tf.autodiff.ForwardAccumulator(sources, tangents()) as forward:
            first = filled(gradients(), sources)
        return list(forward.jvp(first, ZERO))
    if order == "gradient of jvp":
        with tf.GradientTape() as tape:
            tape.watch(sources)
            with tf.autodiff.ForwardAccumulator(sources, tangents()) as forward:
                outputs = list(f(*sources))
            loss = loss_of(forward.jvp(outputs, ZERO), weights, square)
        return filled(dense(tape.gradient(loss, sources)), sources)
    if order == "jacobian":
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(sources)
            outputs = f(*sources)
        return [j for y in outputs for j in tape.jacobian(y, sources, ZERO)]
    if order == "hessian":
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(sources)
            first = filled(gradients(), sources)
        return [j for g in first for j in tape.jacobian(g, sources, ZERO)]
    if order in ("tf.gradients", "tf.gradients twice"):
        loss = loss_of(f(*sources), weights, square)
        first = dense(tf.gradients(loss, sources))
        if order == "tf.gradients":
            return first
        scalar = contracted(filled(first, sources), along)
        return first + filled(dense(tf.gradients(scalar, sources)), sources)
    raise ValueError(order)


def in_context(context, f):
    """f inside what TensorFlow may put around it."""
    if context == "cond":

        def call(*sources):
            wanted = tf.reduce_sum(sources[0]) > -1000
            return tf.cond(wanted, lambda: list(f(*sources)), lambda: [2 * y for y in f(*sources)])

        return call
    if context == "while":

        def turns(*sources):
            def turn(i, *sums):
                found = f(sources[0] * tf.cast(i, sources[0].dtype) / 2, *sources[1:])
                return i + 1, *(s / 2 + y for s, y in zip(sums, found, strict=True))

            start = [tf.zeros_like(y) for y in f(*sources)]
            return tf.while_loop(lambda i, *_: i < 3, turn, [1, *start])[1:]

        return turns
    return tf.recompute_grad(f) if context == "recompute" else f


def run(mode, order, f, tensors, variables, settings, signature=None):
    """Evaluates in one mode."""

    def whole(*tensors):
        return evaluate(order, f, [*tensors, *variables], *settings)

    def parts(call):
        n = len(tensors)
        return evaluate(order, lambda *s: call(*s[:n]), [*tensors, *variables], *settings)

    def forward(*tensors):
        return list(f(*tensors, *variables))

    compiled = mode.startswith("jit")
    if mode in ("graph", "jit"):
        return tf.function(whole, jit_compile=compiled, autograph=False)(*tensors)
    if mode in ("graph, tape outside", "jit, tape outside"):
        return parts(tf.function(forward, jit_compile=compiled, autograph=False))
    if mode == "unknown sizes":
        specs = [tf.TensorSpec(shape, x.dtype) for shape, x in zip(signature, tensors, strict=True)]
        return tf.function(whole, input_signature=specs, autograph=False)(*tensors)
    if mode == "vectorized":
        return vectorized(whole, tensors, variables, signature)
    return whole(*tensors)


def turned(x, times):
    """What differs from one iteration of a map to the next."""
    return [x if i == 0 else -x / i for i in range(times)]


def vectorized(whole, tensors, variables, stacked):
    """tf.vectorized_map of an evaluation, over the tensors that are stacked."""
    groups = [tf.stack(turned(x, 2)) for x, s in zip(tensors, stacked, strict=True) if s]

    def one(parts):
        parts, sources = iter(parts), [*tensors, *variables]
        chosen = [next(parts) if s else x for x, s in zip(tensors, stacked, strict=True)]
        found = whole(*chosen)  # a map cannot give None
        return [tf.zeros_like(sources[i]) if g is None else g for i, g in enumerate(found)]

    return tf.vectorized_map(one, tuple(groups))


def truth(order, f, tensors, variables, settings, stacked=None):
    """Eager; a map's iterations one after the other."""
    order = {"tf.gradients": "gradient", "tf.gradients twice": "second"}.get(order, order)
    if stacked is None:
        return evaluate(order, f, [*tensors, *variables], *settings)
    rounds = []
    for i in range(2):
        chosen = [turned(x, 2)[i] if s else x for x, s in zip(tensors, stacked, strict=True)]
        sources = [*chosen, *variables]
        found = evaluate(order, f, sources, *settings)
        rounds.append([tf.zeros_like(sources[j]) if g is None else g for j, g in enumerate(found)])
    return [tf.stack(values) for values in zip(*rounds, strict=True)]
