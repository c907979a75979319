"""The core, without TensorFlow, against the float64 oracle: forward and every gradient."""

from __future__ import annotations

import functools
import subprocess
import sys

import numpy as np
import pytest
from oracle import ACTIVATIONS, Oracle

from shared_dense import _core

# What the core has the derivative of each from: z, y or nothing.
SAVED = _core.activations()
NAMES = list(SAVED)
DTYPES = ("float32", "float64")


class Call:
    """One call of the core: its arguments, and what comes out beside what the oracle says."""

    def __init__(
        self,
        rows,
        in_features,
        units,
        dtype="float32",
        *,
        names=("linear",),
        biases=0,
        transpose=False,
    ):
        rng = np.random.default_rng([*rows, in_features, units, biases])

        def normal(*shape):
            return rng.standard_normal(shape).astype(dtype)

        self.xs = [normal(n, in_features) for n in rows]
        self.dys = [normal(n, units) for n in rows]
        self.kernel = normal(in_features, units)
        self.kernel *= 2 / np.sqrt(in_features or 1)
        if transpose:
            self.kernel = np.ascontiguousarray(self.kernel.T)
        self.biases = [normal(units) for _ in range(biases)]
        self.names = list(names)
        self.transpose = transpose

    @functools.cached_property
    def exact_zs(self):
        return Oracle(self.xs, self.kernel, self.biases, ("linear",), self.transpose).forward()

    @functools.cached_property
    def exact_ys(self):
        return self._oracle.forward()

    @functools.cached_property
    def exact_gradients(self):
        return self._oracle.backward(self.dys)

    @property
    def _oracle(self):
        return Oracle(self.xs, self.kernel, self.biases, self.names, self.transpose)

    def forward(self, **how):
        how = {"pre_activations": True} | how
        return _core.forward(self.xs, self.kernel, self.biases, self.names, self.transpose, **how)

    def reference(self):
        return _core.forward(
            self.xs, self.kernel, self.biases, self.names, self.transpose, reference=True
        )[0]

    def saved(self, ys, zs):
        """What a training step keeps. Linear keeps nothing: NaN shows whether it is read."""
        names = self.names * len(ys) if len(self.names) == 1 else self.names
        return [
            {"nothing": np.full_like(y, np.nan), "output": y, "pre_activation": z}[SAVED[name]]
            for name, y, z in zip(names, ys, zs, strict=True)
        ]

    def backward(self, saved, **how):
        asked = {"wants_dx": [True] * len(self.xs), "dbias_count": len(self.biases)} | how
        return _core.backward(
            self.xs, self.dys, saved, self.kernel, self.biases, self.names, self.transpose, **asked
        )

    def check(self, **how):
        """Forward and backward agree with the oracle, each element within its bound."""
        ys, zs = self.forward(**how)
        check_all(self.exact_zs, zs, "z")
        check_all(self.exact_ys, ys, "y")
        self.check_gradients(self.backward(self.saved(ys, zs), **how))

    def check_gradients(self, got):
        exact = self.exact_gradients
        check_all(exact["dx"], got["dx"], "dx")
        exact["dkernel"].check(got["dkernel"], "dkernel")
        check_all(exact["dbias"], got["dbias"], "dbias")


# A call and its oracle are the same for every instruction set, which varies fastest.
shared_call = functools.lru_cache(maxsize=2)(Call)


def assert_same(got, expected):
    """The same bits, where assert_array_equal takes -0 for 0."""
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
        np.testing.assert_array_equal(np.signbit(a), np.signbit(b))


def check_all(exact, got, name):
    assert len(got) == len(exact)
    for i, (e, g) in enumerate(zip(exact, got, strict=True)):
        e.check(g, f"{name}[{i}]")


# Every instruction set that runs here, on one thread and on two.
every_how = pytest.mark.parametrize(
    "how",
    [
        pytest.param({"isa": isa, "threads": threads}, id=f"{isa}-{threads}")
        for isa in _core.supported_isas()
        for threads in (1, 2)
    ],
)


@pytest.mark.builds
def test_the_core_runs_without_tensorflow():
    program = """
import sys
import numpy as np
from shared_dense import _core
ones = np.ones((2, 3), np.float32)
(y,), _ = _core.forward([ones], ones.T.copy())
assert (y == 3).all()
_core.backward([ones], [y], [y], ones.T.copy(), wants_dx=[True])
framework = {"tensorflow", "keras", "jax", "torch"} & set(sys.modules)
assert not framework, framework
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# MR is 4, 6 or 14 and NR 4 to 32, so these lie on, before and behind the tile borders. A block of
# the depth is up to 2560 long for an L1 cache of 64 KiB; dW and db are summed 256 rows at a time.
SIZES = [
    ((1,), 1, 1),
    ((1,), 5, 3),
    ((3,), 7, 1),
    ((4, 6, 14), 8, 8),
    ((13, 1, 0, 15), 16, 17),
    ((0, 5, 0, 0, 2, 0), 31, 33),
    ((1,) * 29, 13, 31),
    ((27, 29), 64, 32),
    ((7, 11), 65, 63),
    ((2, 3), 191, 37),
    ((5,), 192, 16),
    ((5, 1), 193, 40),
    ((3, 4), 2803, 19),
    ((6, 9), 19, 2803),
    ((255,), 7, 9),
    ((256,), 7, 9),
    ((100, 157), 7, 9),
    ((255, 1, 256, 0, 2), 3, 41),
    ((700, 331), 10, 6),
    # A kernel of a few columns, of one panel and of several under long inputs; under short ones.
    ((300, 1, 75), 67, 3),
    ((300, 1, 75), 67, 21),
    ((301, 75), 129, 101),
    ((1,) * 130, 67, 5),
    # Shallow: inputs are read where they lie.
    ((133, 70), 12, 301),
    # A sum small enough to be dealt to threads by chunks of rows.
    ((4000, 0, 1700), 61, 37),
]
EMPTY = [
    ((0,), 4, 3),
    ((0, 0, 0), 300, 40),
    ((2, 3), 0, 5),
    ((2, 0), 6, 0),
    ((4,), 0, 0),
    ((0,), 0, 0),
]
# Long enough for a second thread to be asked: more than 5 M multiply-adds.
PARALLEL = [
    ((200, 1, 0, 599), 40, 450),
    ((1, 63), 450, 457),
    ((4000, 1500), 53, 47),
    ((3, 4), 900, 2003),
]
# Up to 16 rows stream past a kernel as it is stored.
STREAM = [
    ((1,), 5, 64),
    ((2, 0, 1), 33, 67),
    ((9, 7), 11, 20011),
    ((15,), 20011, 11),
]
# Rows dealt to tasks (two columns of panels), then columns dealt to tasks: blocks of rows that meet
# a kernel kept packed (the next two), that pack one too large to keep, and a single block of deep
# rows or of a wide kernel.
MANY_ROWS = [
    ((1500, 0, 700), 384, 37),
    ((500, 0, 300), 600, 301),
    ((1501, 700), 37, 307),
    ((130,), 9001, 130),
    ((17, 0, 14), 20011, 130),
    ((17, 14), 130, 20011),
]


@every_how
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES + EMPTY + PARALLEL + STREAM + MANY_ROWS, ids=str)
def test_sizes(size, dtype, how):
    """Every size with its own bias mode and activation, as stored and transposed."""
    rows = size[0]
    seed = sum(size[0]) + 3 * size[1] + 7 * size[2]
    names = (NAMES[seed % len(NAMES)],)
    biases = (0, 1, len(rows))[seed % 3]
    for transpose in (False, True):
        call = shared_call(*size, dtype, names=names, biases=biases, transpose=transpose)
        call.check(**how)


@every_how
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_activations(name, dtype, how):
    shared_call((9, 0, 24), 37, 21, dtype, names=(name,), biases=1).check(**how)


@every_how
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_activations_far_out(name, dtype, how):
    """Saturated on both sides: nothing overflows on the way to a finite result."""
    call = Call((2, 5), 1, 90, dtype, names=[name], biases=1)
    call.kernel[0] = np.concatenate([np.geomspace(1e-30, 1e4, 45), -np.geomspace(1e-30, 1e4, 45)])
    call.check(**how)


@every_how
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("biases", [0, 1, 10])
def test_one_activation_per_input(biases, transpose, how):
    rows = (3, 1, 0, 5, 17, 2, 6, 4, 1, 8)
    shared_call(rows, 23, 35, names=tuple(NAMES), biases=biases, transpose=transpose).check(**how)


@every_how
def test_keeping_pre_activations_changes_no_output(how):
    call = Call((7, 12), 29, 18, names=["gelu"], biases=1)
    kept, _ = call.forward(**how)
    plain, none = _core.forward(call.xs, call.kernel, call.biases, call.names, **how)
    assert none == []
    assert_same(kept, plain)


@every_how
@pytest.mark.parametrize("size", [((5, 0, 8), 33, 17), ((200, 1, 99), 40, 450)], ids=str)
@pytest.mark.parametrize("wanted", [(), (0,), (2,), (0, 2), (1,)])
def test_partial_gradients(size, wanted, how):
    """What is asked for has the bits it has when everything is asked for."""
    call = shared_call(*size, names=("relu", "linear", "gelu"), biases=1)
    saved = call.saved(*call.forward(**how))
    full = call.backward(saved, **how)
    call.check_gradients(full)
    part = call.backward(
        saved, wants_dx=[i in wanted for i in range(3)], wants_dkernel=False, dbias_count=0, **how
    )
    assert part["dkernel"] is None
    assert part["dbias"] == []
    assert_same(part["dx"], [full["dx"][i] for i in wanted])
    own = call.backward(saved, wants_dx=[False] * 3, dbias_count=3, **how)
    assert own["dx"] == []
    np.testing.assert_array_equal(own["dkernel"], full["dkernel"], strict=True)
    exact = Oracle(call.xs, call.kernel, call.biases * 3, call.names).backward(call.dys)
    check_all(exact["dbias"], own["dbias"], "dbias")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [((3, 0, 5), 17, 9), ((2,), 0, 4), ((6, 1), 8, 1)], ids=str)
@pytest.mark.parametrize("transpose", [False, True])
def test_the_two_oracles_agree(name, size, transpose):
    """The C++ reference and oracle.py share no code: each is a witness for the other."""
    call = Call(*size, "float64", names=[name], biases=len(size[0]), transpose=transpose)
    check_all(call.exact_ys, call.reference(), "y")
    call.check_gradients(call.backward([], reference=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_rounds_once(name):
    """In float32 too it computes in float64, so that its error is half a unit."""
    single = Call((3, 5), 17, 9, names=[name], biases=1)
    double = Call((3, 5), 17, 9, names=[name], biases=1)
    for key in ("xs", "dys", "biases"):
        setattr(double, key, [a.astype(np.float64) for a in getattr(double, key)])
    double.kernel = double.kernel.astype(np.float64)
    assert_same(single.reference(), [y.astype(np.float32) for y in double.reference()])
    grads, exact = (call.backward([], reference=True) for call in (single, double))
    assert_same([grads["dkernel"]], [exact["dkernel"].astype(np.float32)])
    for key in ("dx", "dbias"):
        assert_same(grads[key], [a.astype(np.float32) for a in exact[key]])


def test_the_slopes_that_the_bounds_use():
    z = np.linspace(-12, 12, 240_001)
    for name, f in ACTIVATIONS.items():
        slope = f.slope(z)
        smooth = np.all([np.abs(z - kink) > 1e-3 for kink in f.kinks] or [z == z], axis=0)
        between = smooth[1:] & smooth[:-1]
        assert np.abs(slope).max() <= f.steepest, name
        assert np.abs(np.diff(slope) / np.diff(z))[between].max() <= f.curved, name
        # A chord is off the slope in its middle by at most its length times the curvature.
        middle = (slope[1:] + slope[:-1]) / 2
        error = np.abs(np.diff(f.value(z)) / np.diff(z) - middle)[between]
        assert error.max() <= 1e-4 * f.curved + 1e-10, name


@every_how
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize(
    "size", [((5, 3, 14), 37, 21), ((20, 70), 300, 257), ((17, 47), 10007, 33)], ids=str
)
def test_a_poisoned_row_poisons_no_other(size, poison, dtype, how):
    """Row for row: what is not finite stays in its row of y and of dx."""
    call = Call(*size, dtype, biases=1)
    clean, zs = call.forward(**how)
    clean_grads = call.backward(call.saved(clean, zs), **how)
    call.xs[1][1, 4] = poison
    call.dys[1][1, 2] = poison
    ys, zs = call.forward(**how)
    grads = call.backward(call.saved(ys, zs), **how)
    for got, good in ((ys, clean), (zs, clean), (grads["dx"], clean_grads["dx"])):
        assert not np.isfinite(got[1][1]).any()
        got[1][1] = good[1][1]
        assert_same(got, good)


@every_how
def test_a_poisoned_column_poisons_no_other(how):
    """Columns of x, dy and the kernel meet in single rows or columns of the gradients."""
    call = Call((5, 260), 37, 21, biases=2)
    clean, zs = call.forward(**how)
    clean_grads = call.backward(call.saved(clean, zs), **how)

    call.xs[1][7, 4] = np.nan
    call.dys[1][7, 2] = np.nan
    grads = call.backward(call.saved(clean, zs), **how)
    assert np.isnan(grads["dkernel"][4]).all()
    assert np.isnan(grads["dkernel"][:, 2]).all()
    grads["dkernel"][4] = clean_grads["dkernel"][4]
    grads["dkernel"][:, 2] = clean_grads["dkernel"][:, 2]
    np.testing.assert_array_equal(grads["dkernel"], clean_grads["dkernel"], strict=True)
    np.testing.assert_array_equal(grads["dbias"][0], clean_grads["dbias"][0], strict=True)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(grads["dbias"][1])), [2])

    call = Call((5, 260), 37, 21, biases=2)
    call.kernel[3, 20] = np.nan
    ys, _ = call.forward(**how)
    for y, good in zip(ys, clean, strict=True):
        assert np.isnan(y[:, 20]).all()
        np.testing.assert_array_equal(y[:, :20], good[:, :20], strict=True)


@every_how
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_activations_pass_nan_on(name, dtype, how):
    call = Call((4,), 3, 40, dtype, names=[name])
    call.xs[0][2] = np.nan
    (y,), _ = call.forward(**how)
    np.testing.assert_array_equal(np.isnan(y).all(axis=1), [False, False, True, False])
    assert np.isfinite(y[[0, 1, 3]]).all()


@every_how
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("linear", -np.inf, np.inf),
        ("relu", 0, np.inf),
        ("relu6", 0, 6),
        ("leaky_relu", -np.inf, np.inf),
        ("elu", -1, np.inf),
        ("sigmoid", 0, 1),
        ("tanh", -1, 1),
    ],
)
def test_activations_of_infinity(name, low, high, how):
    ones = np.ones((1, 1), np.float32)
    weights = np.array([[-np.inf, np.inf] * 20], np.float32)
    (y,), _ = _core.forward([ones], weights, activations=[name], **how)
    np.testing.assert_array_equal(y[0], [low, high] * 20)
