"""`_core.time_forward` and `time_backward`: what they time is the product, into buffers given."""

import numpy as np
import pytest

from shared_dense import _core

ROWS = (3, 1, 40)


@pytest.fixture(params=[np.float32, np.float64])
def operands(request, rng):
    def normal(*size):
        return rng.standard_normal(size).astype(request.param)

    kernel = normal(33, 20)
    return [normal(r, 33) for r in ROWS], [normal(r, 20) for r in ROWS], kernel


def like(arrays):
    return [np.full_like(array, np.nan) for array in arrays]


@pytest.mark.parametrize("threads", [1, 2])
def test_forward_has_the_bits_of_the_core(operands, threads):
    xs, dys, kernel = operands
    ys = like(dys)
    seconds = _core.time_forward(xs, kernel, ys, repeat=3, threads=threads)
    assert isinstance(seconds, float) and seconds > 0
    for y, want in zip(ys, _core.forward(xs, kernel)[0], strict=True):
        np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("wants_dxs", [True, False])
@pytest.mark.parametrize("wants_dkernel", [True, False])
def test_backward_has_the_bits_of_the_core(operands, wants_dxs, wants_dkernel):
    xs, dys, kernel = operands
    dxs = like(xs) if wants_dxs else []
    dkernel = np.full_like(kernel, np.nan) if wants_dkernel else None
    assert _core.time_backward(xs, dys, kernel, dxs, dkernel, repeat=2, threads=2) > 0
    want = _core.backward(xs, dys, dys, kernel, wants_dx=[True] * len(xs))
    for dx, expected in zip(dxs, want["dx"][: len(dxs)], strict=True):
        np.testing.assert_array_equal(dx, expected)
    if wants_dkernel:
        np.testing.assert_array_equal(dkernel, want["dkernel"])


@pytest.mark.parametrize("isa", _core.supported_isas())
def test_every_instruction_set_can_be_timed(operands, isa):
    xs, dys, kernel = operands
    ys = like(dys)
    _core.time_forward(xs, kernel, ys, isa=isa)
    for y, want in zip(ys, _core.forward(xs, kernel, isa=isa)[0], strict=True):
        np.testing.assert_array_equal(y, want)


def test_bad_arguments_are_errors(operands):
    xs, dys, kernel = operands
    ys, dxs, dkernel = like(dys), like(xs), np.zeros_like(kernel)
    for change in ({"repeat": 0}, {"threads": 0}, {"isa": "no such"}):
        with pytest.raises(ValueError, match=next(iter(change)) + "|instruction set"):
            _core.time_forward(xs, kernel, ys, **change)
    for wrong in ((xs, kernel, ys[:1]), (xs, kernel[:5].copy(), ys), (xs, kernel, ys[::-1])):
        with pytest.raises(ValueError, match=r"one y per x|must have shape"):
            _core.time_forward(*wrong)
    for wrong in (
        (xs, dys[:1], kernel, dxs, dkernel),
        (xs, dys, kernel, dxs[:1], dkernel),
        (xs, dys, kernel, dxs[::-1], dkernel),
        (xs, dys, kernel, dxs, dkernel.T.copy()),
    ):
        with pytest.raises(ValueError, match=r"per x|must have shape"):
            _core.time_backward(*wrong)


def test_an_output_is_never_a_converted_copy(operands):
    """Which would be written, and thrown away."""
    xs, dys, kernel = operands
    other = np.float64 if kernel.dtype == np.float32 else np.float32
    with pytest.raises(TypeError):
        _core.time_forward(xs, kernel, [y.astype(other) for y in dys])
    with pytest.raises(TypeError):
        _core.time_forward(xs, kernel, [np.asfortranarray(y) for y in like(dys)])
