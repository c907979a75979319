"""Activations over the whole range of their dtype, against a wider one."""

import numpy as np
import pytest
from oracle import roundoff
from scipy import special

from shared_dense import _core

SMOOTH = ["elu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh"]
# Units of roundoff times max(1, |y|), the bound that docs/design-cpu.md states.
UNITS = 5


def run(name, z, isa=""):
    """f(z): a product with a kernel of one 1 leaves z as it is, to the bit."""
    one = np.ones((1, 1), z.dtype)
    return _core.forward([z[:, None]], one, activations=[name], isa=isa)[0][0][:, 0]


def slope(name, z, isa=""):
    one, column = np.ones((1, 1), z.dtype), z[:, None]
    saved = column if _core.activations()[name] == "pre_activation" else run(name, z, isa)[:, None]
    got = _core.backward(
        [column], [np.ones_like(column)], [saved], one, [], [name], wants_dx=[True], isa=isa
    )
    return got["dx"][0][:, 0]


def every_kind_of_value(dtype):
    """Finite values of every exponent and sign, denormals included, and the busy range densely."""
    rng = np.random.default_rng(0)
    bits = np.uint32 if dtype == np.float32 else np.uint64
    info = np.iinfo(bits)
    wild = rng.integers(0, info.max, 200_000, dtype=bits, endpoint=True).view(dtype)
    busy = np.concatenate([np.linspace(-120, 120, 200_001), rng.uniform(-2, 2, 50_000)])
    return np.concatenate([wild[np.isfinite(wild)], busy.astype(dtype)])


def exact(name, z):
    """f(z) and f'(z) in a wider type than z's."""
    wide = np.float64 if z.dtype == np.float32 else np.longdouble
    z = z.astype(wide)
    small = np.exp(-np.abs(z))
    s = np.where(z > 0, 1, small) / (1 + small)  # sigmoid
    rest = np.where(z > 0, small, 1) / (1 + small)  # 1 - sigmoid
    if name == "elu":
        below = np.minimum(z, 0)
        return np.where(z > 0, z, np.expm1(below)), np.where(z > 0, 1, np.exp(below))
    if name == "sigmoid":
        return s, s * rest
    if name == "tanh":
        return np.tanh(z), 1 - np.tanh(z) ** 2
    if name == "silu":
        return z * s, s * (1 + z * rest)
    if name == "gelu":
        # Good to float64 only; the bound allows for it.
        cdf = special.ndtr(z.astype(np.float64)).astype(wide)
        return z * cdf, cdf + z * np.exp(-0.5 * z * z) / np.sqrt(2 * np.arccos(wide(-1)))
    clipped = np.clip(z, -50, 50)  # beyond, tanh is 1 to any precision
    root = np.sqrt(2 / np.arccos(wide(-1)))
    cubic = wide("0.044715") if wide is np.longdouble else 0.044715
    t = np.tanh(root * (clipped + cubic * clipped**3))
    inner = 0.5 * clipped * (1 - t * t) * root * (1 + 3 * cubic * clipped**2)
    return 0.5 * z * (1 + t), 0.5 * (1 + t) + inner


@pytest.mark.parametrize("isa", _core.supported_isas())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SMOOTH)
def test_within_five_units_of_roundoff(name, dtype, isa):
    z = every_kind_of_value(dtype)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        y, _ = exact(name, z)
        finite = np.abs(y) < np.finfo(dtype).max
        error = np.abs(run(name, z, isa).astype(y.dtype) - y)[finite]
    allowed = UNITS * roundoff(dtype) * np.maximum(1, np.abs(y[finite]))
    worst = np.argmax(error / allowed)
    assert error[worst] <= allowed[worst], (
        f"{name}({z[finite][worst]!r}): {float(error[worst] / allowed[worst] * UNITS):.1f} units"
    )


@pytest.mark.parametrize("isa", _core.supported_isas())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SMOOTH)
def test_slopes_are_good_to_roundings_of_what_they_are_made_of(name, dtype, isa):
    """f' is a sum of a few terms of size at most max(1, |z|) e^(-z^2/2) and 1: 32 roundings."""
    z = every_kind_of_value(dtype)
    z = z[np.abs(z) < 100]
    with np.errstate(over="ignore", under="ignore"):
        _, expected = exact(name, z)
        error = np.abs(slope(name, z, isa).astype(expected.dtype) - expected)
    worst = np.argmax(error)
    assert error[worst] <= 32 * roundoff(dtype), f"{name}'({z[worst]!r}): off by {error[worst]:.2e}"


@pytest.mark.parametrize("isa", _core.supported_isas())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_that_are_no_ordinary_numbers(dtype, isa):
    inf, nan = np.inf, np.nan
    z = np.array([nan, inf, -inf, 0.0, -0.0], dtype)
    expected = {
        "linear": [nan, inf, -inf, 0, 0],
        "relu": [nan, inf, 0, 0, 0],
        "relu6": [nan, 6, 0, 0, 0],
        "leaky_relu": [nan, inf, -inf, 0, 0],
        "elu": [nan, inf, -1, 0, 0],
        "sigmoid": [nan, 1, 0, 0.5, 0.5],
        "tanh": [nan, 1, -1, 0, 0],
        # The plain formula multiplies infinity by zero, in TensorFlow too.
        "silu": [nan, inf, nan, 0, 0],
        "gelu": [nan, inf, nan, 0, 0],
        "gelu_tanh": [nan, inf, nan, 0, 0],
    }
    for name in _core.activations():
        np.testing.assert_array_equal(run(name, z, isa), np.array(expected[name], dtype), name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", _core.activations())
def test_bits_do_not_depend_on_the_place_in_a_row(name, dtype):
    z = np.random.default_rng(1).uniform(-8, 8, 67).astype(dtype)
    one = np.ones((1, 67), dtype)
    column = np.array([[1.0]], dtype)
    along = _core.forward([column], (one * z).astype(dtype), activations=[name])[0][0][0]
    np.testing.assert_array_equal(along, run(name, z))


@pytest.mark.parametrize("isa", _core.supported_isas())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_tanh"])
def test_slopes_of_huge_values_are_0_and_1(name, dtype, isa):
    """z^2 and z^3 overflow long before z does; the slope has reached its limit before that."""
    huge = np.array([1000, 1e20, np.finfo(dtype).max], dtype)
    np.testing.assert_array_equal(slope(name, huge, isa), np.ones(3, dtype))
    np.testing.assert_array_equal(slope(name, -huge, isa), np.zeros(3, dtype))
