"""The end of every program of the fuzz harness: `verify`, and how far results may be apart.

The truth is `plain`, run eagerly and in float64.

How far the two may be apart. Whatever is computed in float64 is compared to 2^14 units of roundoff
of the largest number among the results of one evaluation: a wrong term is of the order of these
numbers, and the programs are short. In a narrower type roundings are of the order of what is
compared, so an experiment says how much of each other they make (as Monte Carlo arithmetic does):
the float64 program is run again, twice, with the roundings of the narrower type drawn at random
where that type would round: in every sum of products, in every activation and in every gradient
that a product hands back, use by use (`Rounded`), and in every tanh, of which gelu_tanh and its
derivatives subtract 1. The largest difference that this makes in a result, times `MARGIN`, is
allowed, and the rounding of what happens between the products: `BETWEEN` units of the largest
number of that result and 2 of the largest number of all. Sources are multiples of a quarter, which
every type holds exactly, and activations with a kink get sums that are exact, so that nothing
jumps.
"""

from __future__ import annotations

import contextlib

import keras
import numpy as np
import tensorflow as tf

import shared_dense as sd
from fuzz.prelude import PLAIN, each, gelu_tanh, in_context, plain, run, sum_of_products, truth

MARGIN, BETWEEN = 12, 12
OWN = 2  # errors of plain TensorFlow in the same type and mode: as much may be ours
UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}


class Rounded:
    """`plain`, and the roundings of a narrower type at random."""

    def __init__(self, dtype, seed):
        self.dtype, self.rng, self.unit = tf.as_dtype(dtype), np.random.default_rng(seed), None

    def some(self, shape):
        return UNITS[self.dtype.name] * tf.constant(self.rng.uniform(-1, 1, shape))

    def returned(self, x):
        """x itself; its gradient is rounded."""
        factor = 1 + self.some(x.shape)
        return tf.custom_gradient(lambda x: (tf.identity(x), lambda dy: dy * factor))(x)

    def stored(self, y, size):
        """y with an error of the size given, unless the narrower type holds y as it is."""
        error = self.some(y.shape) * tf.stop_gradient(size)
        value = tf.stop_gradient(y)
        held = tf.cast(tf.cast(value, self.dtype), y.dtype)
        return y + tf.where(held == value, tf.zeros_like(y), error)

    def tanh(self, z):
        """y with an error; its derivatives, made of 1 - y^2, have errors of that size, too."""

        @tf.custom_gradient
        def rounded(z):
            y = tf.tanh(z) * (1 + self.some(z.shape))
            return y, lambda dy: dy * (1 - self.tanh(z) ** 2)

        return rounded(z)

    def activation(self, name):
        """A function of the pre-activation."""
        own = {"tanh": self.tanh, "gelu_tanh": lambda z: gelu_tanh(z, self.tanh)}
        return name if callable(name) else own.get(name, PLAIN[name])

    def __call__(
        self, inputs, kernel, bias=None, activation=None, transpose_kernel=False, trains_kernel=True
    ):
        n, outputs = len(inputs), []
        choices = zip(
            inputs, each(bias, n), each(activation, n), each(trains_kernel, n), strict=True
        )
        for x, b, a, trains in choices:
            w = tf.convert_to_tensor(kernel)
            x, w = self.returned(x), self.returned(w if trains else tf.stop_gradient(w))
            z = sum_of_products(x, w, transpose_kernel)
            size = sum_of_products(tf.abs(x), tf.abs(w), transpose_kernel)
            if b is not None:
                z, size = z + self.returned(tf.convert_to_tensor(b)), size + tf.abs(b)
            y = self.activation(a)(self.returned(self.stored(z, size)))
            outputs.append(self.returned(self.stored(y, tf.abs(y))))
        return outputs


def array(value):
    return np.asarray(tf.cast(value, tf.float64))


def allowances(wanted, noisy, dtype):
    """Per result the largest error allowed."""
    unit = UNITS[dtype]
    wanted = [np.zeros(0) if w is None else array(w) for w in wanted]
    sizes = [np.abs(w).max(initial=0) for w in wanted]
    largest = max([1.0, *sizes])
    if dtype == "float64":
        return [2.0**14 * unit * largest] * len(wanted)
    moved = [
        max(np.abs(array(run[i]) - w).max(initial=0) if w.size else 0 for run in noisy)
        for i, w in enumerate(wanted)
    ]
    return [
        MARGIN * m + BETWEEN * unit * size + 2 * unit * largest
        for m, size in zip(moved, sizes, strict=True)
    ]


def differences(got, wanted, allowed, nones):
    """What is wrong with results, in words; None if nothing is."""
    if len(got) != len(wanted):
        return f"{len(got)} results, not {len(wanted)}"
    for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
        if (a is None) != (b is None) and nones:
            return f"result {i} is {'' if a is None else 'not '}None, plain's is not so"
        if a is None or b is None:
            other = array(b if a is None else a) if (a is None) != (b is None) else np.zeros(0)
            if other.any():
                return f"result {i}: None on one side, {other.ravel()[:5]} on the other"
            continue
        a, b = array(a), array(b)
        if a.shape != b.shape:
            return f"result {i} has shape {a.shape}, not {b.shape}"
        error = np.abs(a - b)
        if not (error <= allowed[i]).all():
            worst = np.unravel_index(
                np.nanargmax(np.where(np.isnan(error), np.inf, error)), a.shape
            )
            return (
                f"result {i}{list(map(int, worst))}: got {a[worst]!r}, want {b[worst]!r}, off by "
                f"{error[worst]:.2e} > {allowed[i]:.2e}"
            )
    return None


def error_of(got, wanted):
    """The largest difference of two results."""
    return float(np.abs(array(got) - array(wanted)).max(initial=0))


def numbers(seed, *shape):
    """Multiples of a quarter in [-1, 1], which every type holds and few products round."""
    return np.random.default_rng(seed).integers(-4, 5, shape) / 4


def directly(product):
    """For programs of shared_matmul: variables are the program's own."""

    def make(dtype, arrays):
        return product, [tf.Variable(a, dtype=dtype) for a in arrays]

    return make


def reused(product, *options, **more):
    """A Dense layer's call on every tensor of a structure."""

    def call(inputs):
        flat = [product([x], *options, **more)[0] for x in keras.tree.flatten(inputs)]
        return keras.tree.pack_sequence_as(inputs, flat)

    return call


def branched(branches):
    return lambda inputs: {name: branches[name](part) for name, part in inputs.items()}


def called(layers, owned, arrays):
    """Layers of ours, once their weights have the values of the arrays."""
    for weight, value in zip(owned, arrays, strict=True):
        weight.assign(value)
    return (lambda name, inputs: layers[name](inputs)), [weight.value for weight in owned]


def started(label):
    """Called before each evaluation; a harness puts its own here."""


def ended(label, wrong, excused):
    """Called after each; `excused`: plain TensorFlow is wrong in the same way."""
    if wrong:
        raise AssertionError(f"{label}: {wrong}")
    print(f"right: {label}")


def verify(
    f,
    tensors,
    variables=(),
    *,
    dtype,
    mode,
    orders,
    paths,
    ours=None,
    theirs=None,
    noisy=None,
    context="",
    square=False,
    weigh_rows=True,
    signature=None,
    seed=0,
):
    """Compares every order on every path with the truth.

    tensors, variables: arrays of the sources; `ours`, `theirs` and `noisy` make, of a dtype and the
    arrays of the variables, the product that f takes and the variables, in their order.
    """
    ours = ours or directly(sd.shared_matmul)
    theirs = theirs or directly(plain)
    noisy = noisy or (lambda dtype, seed: directly(Rounded(dtype, seed)))
    stacked = signature if mode == "vectorized" else None

    def program(make, dtype):
        product, owned = make(dtype, variables)
        function = in_context(context, lambda *sources: f(product, *sources))
        return function, [tf.constant(x, dtype) for x in tensors], owned

    exact = program(theirs, "float64")
    shapes = [y.shape if weigh_rows else y.shape[-1:] for y in exact[0](*exact[1], *exact[2])]
    weights = [numbers([seed, 1, i], *shape) for i, shape in enumerate(shapes)]
    along = [numbers([seed, 2, i], *x.shape) for i, x in enumerate([*tensors, *variables])]
    settings = [tf.constant(w) for w in weights], [tf.constant(v) for v in along], square

    def attempt(make, order, wanted, allowed, path):
        """The results, and what is wrong with them."""
        try:
            with sd.fallback() if path == "fallback" else contextlib.nullcontext():
                function, *sources = program(make, dtype)
                got = run(mode, order, function, *sources, settings, signature)
            if path != "plain" and sd.status().last_path != path:
                return None, f"took the path {sd.status().last_path}"
            # A map cannot give None; a loop gives zeros for whatever enters it.
            told = order.startswith("gradient") and mode != "vectorized" and context != "while"
            return got, differences(got, wanted, allowed, nones=told and path == "op")
        except Exception as error:
            return None, f"{type(error).__name__}: {str(error)[:2000]}"

    def shared_by_plain(got, order, wanted, allowed):
        """Whether plain TensorFlow fails as well, or its own roundings explain the difference."""
        if (mode, dtype) == ("eager", "float64"):
            return False
        theirs_got, theirs_wrong = attempt(theirs, order, wanted, allowed, "plain")
        if theirs_wrong or got is None or dtype == "float64":
            return bool(theirs_wrong)
        pairs = zip(theirs_got, wanted, strict=True)
        own = [0.0 if a is None or b is None else error_of(a, b) for a, b in pairs]
        wider = [a + OWN * e for a, e in zip(allowed, own, strict=True)]
        return not differences(got, wanted, wider, nones=False)

    worlds = [exact]
    if dtype != "float64":
        worlds += [program(noisy(dtype, i), "float64") for i in range(2)]
    made = {}

    def known(order):
        """The truth and, in narrower types, runs with roundings; one serves several orders."""
        first = order.startswith("gradient") and not order.endswith("jvp")
        whole = ("second" if "second" in orders else "gradient") if first else order
        if whole not in made:
            made[whole] = [truth(whole, *world, settings, stacked) for world in worlds]
        if not first:
            return made[whole]
        chosen = list(map(int, order.split()[2:])) or range(len(along))
        return [[values[i] for i in chosen] for values in made[whole]]

    for order in orders:
        wanted, *runs = known(order)
        allowed = allowances(wanted, runs, dtype)
        if order == "cancelled":
            wanted, allowed = [tf.zeros_like(w) for w in wanted], [0.0] * len(wanted)
        for path in paths:
            label = f"{mode}, {order}, {path}"
            started(label)
            make = theirs if path == "plain" else ours
            got, wrong = attempt(make, order, wanted, allowed, path)
            excused = bool(wrong) and shared_by_plain(got, order, wanted, allowed)
            ended(label, wrong, excused)
