"""Bits of the gradients: kept or made again, in any company, on any number of threads."""

from __future__ import annotations

import hashlib
import os
import subprocess

import numpy as np
import pytest
import tensorflow as tf
import warm
from oracle import Oracle
from test_gradients import check, differentiate, flat, problem, tensors

import shared_dense as sd


def same_bits(a, b):
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)
        assert np.asarray(left).tobytes() == np.asarray(right).tobytes(), "zeros of other signs"


def pre_activations_kept(function, *arguments):
    operations = function.get_concrete_function(*arguments).graph.get_operations()
    calls = [op for op in operations if op.type == "SharedDense>SharedMatMul"]
    return [op.get_attr("num_pre_activations") for op in calls]


@pytest.mark.parametrize("names", [["gelu"] * 5, ["silu", "relu", "linear", "gelu_tanh", "elu"]])
@pytest.mark.parametrize("turn", [False, True])
def test_kept_or_made_again_the_pre_activations_have_the_same_bits(rng, names, turn):
    xs, kernel, bias, dys = problem(rng)
    kernel, n = kernel.T.copy() if turn else kernel, len(xs)
    sources = tensors([*xs, kernel, bias])
    inside = tf.function(lambda *s: differentiate(s[:n], s[n], s[n + 1 :], dys, names, turn))
    traced = tf.function(lambda *s: sd.shared_matmul(s[:n], *s[n:], names, turn))
    assert pre_activations_kept(inside, *sources) == [n]
    # Traced where no tape is seen: had it been, they would be kept here too.
    assert pre_activations_kept(traced, *sources) == [0]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        outputs = traced(*sources)

    again, kept = tape.gradient(outputs, sources, output_gradients=dys), inside(*sources)

    same_bits(again, kept)
    check(kept, flat(Oracle(xs, kernel, [bias], names, turn).backward(dys)))


def test_a_row_has_the_same_bits_in_any_company(rng):
    shapes, alone = [(37, 129), (1, 129), (0, 129), (4, 5, 129), (129,)], 3
    xs, kernel, bias, dys = problem(rng, shapes, 71)

    def apply(xs, dys):
        n, found = len(xs), differentiate(xs, kernel, [bias], dys, "gelu")
        return sd.shared_matmul(xs, kernel, bias, "gelu"), found[:n], found[n:]

    together, again = apply(xs, dys), apply(xs, dys)

    same_bits(together[2], again[2])
    for i in range(2):
        same_bits(together[i], again[i])
        same_bits([together[i][alone]], apply([xs[alone]], [dys[alone]])[i])
        row = apply([xs[alone][2, 3]], [dys[alone][2, 3]])
        same_bits([together[i][alone][2, 3]], row[i])
        same_bits(together[i][::-1], apply(xs[::-1], dys[::-1])[i])


def digest(threads):
    """Runs in a process of its own: a hash of everything computed with that many threads."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    # Large enough that sharing out the work pays.
    shapes = [(300, 256), (1, 256), (290, 256)]
    xs, kernel, bias, dys = problem(np.random.default_rng(3), shapes, 200)
    gradients = differentiate(xs, kernel, [bias], dys, "gelu")
    found = [*sd.shared_matmul(xs, kernel, bias, "gelu"), *gradients]
    print(hashlib.sha256(b"".join(t.numpy().tobytes() for t in found)).hexdigest())


def test_any_number_of_threads_gives_the_same_bits():
    program = "import test_gradient_bits; test_gradient_bits.digest({})"
    processes = [
        subprocess.Popen(
            [*warm.python(), "-c", program.format(threads)],
            cwd=os.path.dirname(__file__),
            stdout=subprocess.PIPE,
        )
        for threads in (1, 2)
    ]
    one, two = (process.communicate()[0].strip().splitlines()[-1] for process in processes)
    assert len(one) == 64
    assert one == two
