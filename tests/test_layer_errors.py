"""What the layers say of arguments and inputs that are no tensors; of shapes: test_layer.py."""

from __future__ import annotations

import collections

import keras
import numpy as np
import pytest
import tensorflow as tf

import shared_dense as sd

K = 3
GOOD = np.ones((2, K), "float32")
NO_TENSORS = {
    "numbers": ([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], ["inputs[0][0] is 1.0", "numpy.array(...)"]),
    "a number": (7, ["inputs is 7, no tensor"]),
    "a string": ([GOOD, "text"], ["inputs[1] is 'text'", "no tensor"]),
    "objects": ([GOOD, np.array([[1], [2, 3]], object)], ["inputs[1] is a NumPy array of objects"]),
    "ragged": (
        [GOOD, tf.ragged.constant([[1.0], []])],
        ["inputs[1] is a RaggedTensor", "to_tensor"],
    ),
}


def layers():
    dense = sd.SharedDense(K, name="layer")
    dense.build((None, K))
    return {
        "shared": dense,
        "transposed": sd.TransposedDense(dense, name="layer"),
        "mapped": sd.Shared(keras.layers.LayerNormalization(), name="layer"),
    }


@pytest.mark.parametrize("case", NO_TENSORS)
@pytest.mark.parametrize("which", ["shared", "transposed", "mapped"])
def test_inputs_that_are_no_tensors(path, which, case):
    if (which, case) == ("mapped", "ragged"):
        pytest.skip("that is for its layer to say: test_shared.py")
    inputs, pieces = NO_TENSORS[case]
    layer = layers()[which]
    with pytest.raises(TypeError) as error:
        layer(inputs)
    for piece in ['layer "layer"', *pieces]:
        assert piece in str(error.value)
    assert layer([GOOD])[0].shape == (2, K)


@pytest.mark.parametrize("which", ["shared", "transposed", "mapped"])
def test_no_argument(path, which):
    with pytest.raises(TypeError, match=r'layer "layer" takes its inputs as one .* given no arg'):
        layers()[which]()


def test_symbolic_tensors_are_for_the_layer():
    with pytest.raises(TypeError, match=r"inputs\[0\] is a symbolic .* use the layer SharedDense"):
        sd.shared_matmul([keras.Input((K,))], np.ones((K, 2), "float32"))


class Mapping(dict):
    """What Keras takes for a leaf."""


@pytest.mark.parametrize("inputs", [Mapping(a=GOOD), collections.deque([GOOD]), [Mapping(a=GOOD)]])
def test_containers_that_are_no_structure(path, inputs):
    name = "deque" if isinstance(inputs, collections.deque) else "Mapping"
    with pytest.raises(TypeError, match=f'layer "layer": inputs has a {name}, .* a list, a tuple'):
        layers()["shared"](inputs)


def test_an_empty_part_of_a_model(path):
    layer = sd.SharedDense(2)
    with pytest.raises(ValueError, match=r"inputs\['b'\] is empty; in a model, leave out"):
        layer({"a": keras.Input((K,)), "b": []})


def test_chaining_is_named_where_it_was_meant(path):
    """Inputs as wide as the layer's outputs; of other widths the message says nothing of it."""
    layer = sd.SharedDense(5)
    for width, is_chaining in ((5, True), (4, False)):
        with pytest.raises(ValueError, match="shared among inputs of one width") as error:
            layer([GOOD, np.ones((2, width), "float32")])
        assert ("chaining" in str(error.value)) == is_chaining


MAKERS = {
    "SharedDense": lambda name: sd.SharedDense(2, name),
    "branches": lambda name: sd.SharedDense(2, branches={"a": {"activation": name}}),
    "TransposedDense": lambda name: sd.TransposedDense(sd.SharedDense(2), name),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("wrong, meant", [("rleu", "relu"), ("sigmiod", "sigmoid"), ("zzz", None)])
def test_a_misspelt_activation(make, wrong, meant):
    with pytest.raises(ValueError, match=f"activation='{wrong}' is unknown to Keras") as error:
        make(wrong)
    assert (f"did you mean '{meant}'?" in str(error.value)) == (meant is not None)
    assert ("did you mean" in str(error.value)) == (meant is not None)


@pytest.mark.parametrize("value", [GOOD.astype("float64"), GOOD.tolist(), GOOD.astype("float16")])
def test_arrays_become_the_kernels_dtype(path, value):
    """As beside a tensor of TensorFlow; tensors of another dtype are refused (test_errors.py)."""
    kernel = np.arange(6, dtype="float32").reshape(K, 2)
    (y,) = sd.shared_matmul([value], kernel)
    assert y.dtype == "float32"
    np.testing.assert_array_equal(y, GOOD @ kernel)
