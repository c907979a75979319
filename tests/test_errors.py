"""Every bad argument is refused by name, with what was seen, what is wanted and what to do."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from oracle import Oracle

import shared_dense as sd
from shared_dense.runtime import loader

ONE, TWO = tf.ones([2, 4]), tf.ones([3, 4])
KERNEL, BIAS = tf.ones([4, 5]), tf.ones([5])
SPARSE = tf.sparse.from_dense(TWO)
RAGGED = tf.ragged.constant([[1.0, 2.0], [3.0]])
SLICES = tf.IndexedSlices(TWO, tf.range(3))


@pytest.fixture
def still_right(path):
    """After the error, a good call on the same path gives the right answer."""
    yield
    x, kernel = np.float32([[1, -2]]), np.float32([[3, 1, 0], [1, 2, 4]])
    outputs = sd.shared_matmul([x, x], kernel, activation="relu")
    for output, wanted in zip(outputs, Oracle([x, x], kernel, (), ["relu"]).forward(), strict=True):
        wanted.check(output)


# Name, arguments that are wrong, error, and what its message has to hold.
BAD = [
    ("inputs None", {"inputs": None}, TypeError, ["inputs must be a list", "NoneType"]),
    ("one tensor", {"inputs": ONE}, TypeError, ["inputs must be a list", "Tensor", "[tensor]"]),
    ("no inputs", {"inputs": []}, ValueError, ["inputs is empty", "at least one"]),
    ("None among", {"inputs": [ONE, None]}, TypeError, ["inputs[1] is None", "pass a tensor"]),
    (
        "dtype of input",
        {"inputs": [ONE, tf.cast(TWO, tf.float64)]},
        TypeError,
        ["inputs[1] has dtype float64", "kernel has float32", "tf.cast"],
    ),
    (
        "integer input",
        {"inputs": [tf.cast(ONE, tf.int32)]},
        TypeError,
        ["inputs[0] has dtype int32", "kernel has float32", "tf.cast"],
    ),
    (
        "objects",
        {"inputs": [ONE, np.array([[1.0], [1.0, 2.0]], object)]},
        TypeError,
        ["inputs[1] is a NumPy array of objects", "rows differ in length"],
    ),
    (
        "a list of lists of two lengths",
        {"inputs": [[[1.0, 2.0], [1.0]]]},
        TypeError,
        ["inputs[0] is a list that makes no tensor", "pass a tensor"],
    ),
    ("a string", {"inputs": ["text"]}, TypeError, ["inputs[0]", "string", "float32"]),
    (
        "a misspelt activation",
        {"activation": "rleu"},
        ValueError,
        ["activation='rleu' is unknown", "did you mean 'relu'?"],
    ),
    ("sparse", {"inputs": [ONE, SPARSE]}, TypeError, ["inputs[1] is a SparseTensor", "to_dense"]),
    ("ragged", {"inputs": [RAGGED]}, TypeError, ["inputs[0] is a RaggedTensor", "flat values"]),
    ("slices", {"inputs": [SLICES]}, TypeError, ["inputs[0] is a IndexedSlices", "dense"]),
    ("scalar", {"inputs": [ONE, tf.ones([])]}, ValueError, ["inputs[1] is a scalar", ">= 1"]),
    (
        "width",
        {"inputs": [ONE, tf.ones([2, 3, 6])]},
        ValueError,
        ["inputs[1] has shape (2, 3, 6)", "kernel (4, 5)", "last axis is 4", "of one width"],
    ),
    (
        "width, transposed",
        {"transpose_kernel": True},
        ValueError,
        ["inputs[0] has shape (2, 4)", "kernel (4, 5) (transposed)", "last axis is 5"],
    ),
    ("kernel None", {"kernel": None}, TypeError, ["kernel is None", "pass a tensor"]),
    (
        "integer kernel",
        {"kernel": tf.ones([4, 5], tf.int32)},
        TypeError,
        ["kernel has dtype int32", "floating-point"],
    ),
    (
        "complex kernel",
        {"kernel": tf.ones([4, 5], tf.complex64)},
        TypeError,
        ["kernel has dtype complex64", "floating-point"],
    ),
    ("sparse kernel", {"kernel": SPARSE}, TypeError, ["kernel is a SparseTensor", "to_dense"]),
    ("kernel of rank 1", {"kernel": BIAS}, ValueError, ["kernel", "rank 2", "units]", "(5,)"]),
    (
        "kernel of rank 3",
        {"kernel": tf.ones([2, 4, 5])},
        ValueError,
        ["kernel", "rank 2", "[in_features, units]", "(2, 4, 5)"],
    ),
    ("bias length", {"bias": tf.ones([4])}, ValueError, ["bias has shape (4,)", "(5,)", "(4, 5)"]),
    ("bias of one", {"bias": tf.ones([1])}, ValueError, ["bias has shape (1,)", "shape (5,)"]),
    ("bias rank", {"bias": tf.ones([1, 5])}, ValueError, ["bias has shape (1, 5)", "shape (5,)"]),
    ("bias scalar", {"bias": tf.ones([])}, ValueError, ["bias has shape ()", "shape (5,)"]),
    (
        "bias dtype",
        {"bias": tf.ones([5], tf.float64)},
        TypeError,
        ["bias has dtype float64", "kernel has float32", "tf.cast"],
    ),
    ("bias sparse", {"bias": SPARSE}, TypeError, ["bias is a SparseTensor"]),
    (
        "bias, transposed",
        {"inputs": [tf.ones([2, 5])], "bias": BIAS, "transpose_kernel": True},
        ValueError,
        ["bias has shape (5,)", "kernel (4, 5)", "shape (4,)"],
    ),
    (
        "one of the biases",
        {"bias": [None, tf.ones([4])]},
        ValueError,
        ["bias[1] has shape (4,)", "kernel (4, 5)", "shape (5,)"],
    ),
    (
        "number of biases",
        {"bias": [BIAS] * 3},
        ValueError,
        ["bias is a list of 3", "2 inputs", "pass one", "one per input"],
    ),
    (
        "one bias in a list",
        {"bias": [BIAS]},
        ValueError,
        ["bias is a list of 1", "2 inputs", "pass one", "one per input"],
    ),
    (
        "bias among many",
        {"bias": [BIAS, tf.ones([4])]},
        ValueError,
        ["bias[1] has shape (4,)", "kernel (4, 5)"],
    ),
    (
        "number of flags",
        {"trains_kernel": [True]},
        ValueError,
        ["trains_kernel is a list of 1", "2 inputs", "True, False", "one per input"],
    ),
    ("no flag", {"trains_kernel": None}, TypeError, ["trains_kernel must be True, False", "None"]),
    (
        "one not a flag",
        {"trains_kernel": [True, 1]},
        TypeError,
        ["trains_kernel must be True, False", "one per input", "[True, 1]"],
    ),
    (
        "unknown activation",
        {"activation": "gleu"},
        ValueError,
        ["activation='gleu'", "gelu, gelu_tanh", "as a function"],
    ),
    (
        "one unknown activation",
        {"activation": ["relu", "Relu"]},
        ValueError,
        ["activation='Relu'", "relu, relu6"],
    ),
    (
        "number of activations",
        {"activation": ["relu"] * 3},
        ValueError,
        ["activation is a list of 3", "2 inputs", "pass one", "one per input"],
    ),
    ("not callable", {"activation": 7}, TypeError, ["activation must be", "a function", "7"]),
    ("one not callable", {"activation": [None, 7]}, TypeError, ["activation must be", "7"]),
]


@pytest.mark.parametrize(
    ("wrong", "error", "said"), [pytest.param(*case, id=name) for name, *case in BAD]
)
def test_what_can_be_seen_at_once(path, run, still_right, wrong, error, said):
    arguments = {"inputs": [ONE, TWO], "kernel": KERNEL} | wrong

    with pytest.raises(error) as raised:
        run(lambda: sd.shared_matmul(**arguments))()

    for text in said:
        assert text in str(raised.value)


# Shapes of input, kernel and bias, and what the op's message has to hold.
LATE = {
    "width": ([2, 6], [4, 5], [5], ["inputs[1] has shape [2,6]", "kernel [4,5]", "axis is 4"]),
    "scalar": ([], [4, 5], [5], ["inputs[1]", "rank >= 1", "scalar"]),
    "kernel of rank 1": ([2, 4], [4], [5], ["kernel must have rank 2", "shape [4]"]),
    "kernel of rank 3": ([2, 4], [2, 4, 5], [5], ["kernel must have rank 2", "shape [2,4,5]"]),
    "bias length": ([2, 4], [4, 5], [4], ["biases[0] has shape [4]", "shape [5]"]),
    "bias of one": ([2, 4], [4, 5], [1], ["biases[0] has shape [1]", "shape [5]"]),
    "bias rank": ([2, 4], [4, 5], [2, 5], ["biases[0] has shape [2,5]", "shape [5]"]),
    "bias scalar": ([2, 4], [4, 5], [], ["biases[0] has shape []", "shape [5]"]),
    "vector": ([4], [4, 5], [1], ["biases[0] has shape [1]", "shape [5]"]),
}


def run_late(x, kernel, bias, ranks_known=False, beside=()):
    """Applies it to these shapes, traced when they were not known."""
    signature = [
        tf.TensorSpec([None] * len(shape) if ranks_known else None) for shape in (x, kernel, bias)
    ]
    apply = tf.function(
        lambda x, w, b: sd.shared_matmul([*beside, x], w, b), input_signature=signature
    )
    apply(tf.ones(x), tf.ones(kernel), tf.ones(bias))


@pytest.mark.parametrize("path", ["op"], indirect=True)
@pytest.mark.parametrize(
    ("name", "ranks_known"),
    [(name, False) for name in LATE]
    + [(name, True) for name in ("width", "bias length", "bias of one", "vector")],
)
def test_what_the_op_sees_when_it_runs(path, still_right, name, ranks_known):
    *shapes, said = LATE[name]

    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        run_late(*shapes, ranks_known, beside=[ONE])

    for text in ["SharedMatMul:", *said]:
        assert text in raised.value.message


@pytest.mark.parametrize("path", ["fallback"], indirect=True)
@pytest.mark.parametrize("name", LATE)
def test_what_the_fallback_sees_when_it_runs(path, still_right, name):
    *shapes, _ = LATE[name]

    # TensorFlow's own ops speak here; what matters is that they do.
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        run_late(*shapes)


@pytest.mark.parametrize("path", ["fallback"], indirect=True)
def test_the_fallback_survives_a_scalar_bias(path, still_right):
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        run_late([2, 4], [4, 5], [], beside=[ONE])


def forward(wrong):
    arguments = {
        "inputs": [ONE, TWO],
        "kernel": KERNEL,
        "biases": [BIAS],
        "activations": ["gelu"],
    }
    return loader.load().ops.shared_dense_shared_mat_mul(**(arguments | wrong))


def backward(wrong):
    arguments = {
        "output_grads": [tf.ones([2, 5]), tf.ones([3, 5])],
        "inputs": [ONE, TWO],
        "kernel": KERNEL,
        "biases": [BIAS, BIAS],
        "saved": [tf.ones([2, 5]), tf.ones([3, 5])],
        "activations": ["gelu"],
        "needs_input_grad": [True, False],
        "num_input_grads": 1,
        "num_kernel_grads": 1,
        "num_bias_grads": 2,
    }
    return loader.load().ops.shared_dense_shared_mat_mul_grad(**(arguments | wrong))


RAW = [
    (forward, {"activations": []}, ["activations", "one per input (2)", "got 0"]),
    (forward, {"activations": ["relu"] * 3}, ["activations", "one per input (2)", "got 3"]),
    (forward, {"activations": ["gleu"]}, ["unknown activation 'gleu'", "known: ", "gelu_tanh"]),
    (forward, {"biases": [BIAS] * 3}, ["biases", "one per input (2)", "got 3"]),
    (forward, {"biases": [tf.ones([4])]}, ["biases[0]", "[4]", "of shape [5]"]),
    (forward, {"biases": [BIAS, tf.ones([1, 5])]}, ["biases[1]", "[1,5]", "of shape [5]"]),
    (forward, {"num_pre_activations": 1}, ["num_pre_activations", "(2)", "got 1"]),
    (forward, {"num_pre_activations": 3}, ["num_pre_activations", "(2)", "got 3"]),
    (forward, {"kernel": tf.ones([5])}, ["kernel must have rank 2", "[5]"]),
    (forward, {"kernel": tf.ones([])}, ["kernel must have rank 2", "[]"]),
    (forward, {"inputs": [ONE, tf.ones([])]}, ["inputs[1]", "rank >= 1", "scalar"]),
    (forward, {"inputs": [tf.ones([0, 6]), ONE]}, ["inputs[0]", "[0,6]", "last axis is 4"]),
    (forward, {"transpose_kernel": True}, ["[4,5] (transposed)", "last axis is 5"]),
    (forward, {"bias_of": [0]}, ["bias_of", "one per input (2)", "got 1"]),
    (forward, {"bias_of": [0, -2]}, ["bias_of[1]", "-1 for none", "got -2"]),
    (forward, {"bias_of": [1, 0]}, ["bias_of[0]", "one of the 1 biases", "got 1"]),
    (forward, {"trains_kernel": [True]}, ["trains_kernel", "one per input (2)", "got 1"]),
    (forward, {"trains_kernel": [True] * 3}, ["trains_kernel", "one per input (2)", "got 3"]),
    (backward, {"activations": ["relu"] * 3}, ["activations", "one per input (2)", "got 3"]),
    (backward, {"activations": ["gelu", "gleu"]}, ["unknown activation 'gleu'", "known: "]),
    (backward, {"saved": []}, ["saved", "one tensor per input (2)", "got 0"]),
    (backward, {"saved": [tf.ones([2, 5])]}, ["saved", "one tensor per input (2)", "got 1"]),
    (backward, {"saved": [tf.ones([2, 5])] * 2}, ["saved[1]", "[2,5]", "output 1: [3,5]"]),
    (backward, {"saved": [tf.ones([10]), ONE]}, ["saved[0]", "[10]", "output 0: [2,5]"]),
    (backward, {"output_grads": [tf.ones([2, 5])] * 2}, ["output_grads[1]", "output 1: [3,5]"]),
    (backward, {"output_grads": [ONE, TWO]}, ["output_grads[0]", "[2,4]", "output 0: [2,5]"]),
    (backward, {"needs_input_grad": [True]}, ["needs_input_grad", "(2)", "got 1 flags"]),
    (backward, {"needs_input_grad": []}, ["needs_input_grad", "(2)", "got 0 flags"]),
    (backward, {"needs_input_grad": [True] * 2}, ["needs_input_grad", "num_input_grads = 1"]),
    (backward, {"num_input_grads": 2}, ["needs_input_grad", "num_input_grads = 2"]),
    (backward, {"num_kernel_grads": 2}, ["num_kernel_grads must be 0 or 1", "got 2"]),
    (backward, {"num_bias_grads": 1}, ["num_bias_grads", "number of biases (2)", "got 1"]),
    (backward, {"num_bias_grads": 3}, ["num_bias_grads", "number of biases (2)", "got 3"]),
    (backward, {"biases": [BIAS] * 3}, ["biases", "one per input (2)", "got 3"]),
    (backward, {"biases": [BIAS, tf.ones([4])]}, ["biases[1]", "[4]", "of shape [5]"]),
    (backward, {"kernel": tf.ones([1, 4, 5])}, ["kernel must have rank 2", "[1,4,5]"]),
    (backward, {"inputs": [ONE, tf.ones([3, 6])]}, ["inputs[1]", "[3,6]", "last axis is 4"]),
    (backward, {"bias_of": [0]}, ["bias_of", "one per input (2)", "got 1"]),
    (backward, {"bias_of": [0, -2]}, ["bias_of[1]", "-1 for none", "got -2"]),
    (backward, {"bias_of": [-1, 2]}, ["bias_of[1]", "one of the 2 biases", "got 2"]),
    (backward, {"trains_kernel": [True]}, ["trains_kernel", "one per input (2)", "got 1"]),
    (backward, {"trains_kernel": [True] * 3}, ["trains_kernel", "one per input (2)", "got 3"]),
]
# The shape function has no use for these: only the kernel looks at them.
SEEN_LATE = ("saved", "output_grads")


@pytest.mark.parametrize("path", ["op"], indirect=True)
@pytest.mark.parametrize(
    ("op", "wrong", "said"),
    [
        pytest.param(*case, id=f"{case[0].__name__} {next(iter(case[1]))} {i}")
        for i, case in enumerate(RAW)
    ],
)
def test_the_ops_themselves(path, run, request, still_right, op, wrong, said):
    traced = request.node.callspec.params["run"] == "function"
    # TensorFlow turns the InvalidArgument of a shape function into a ValueError.
    early = traced and next(iter(wrong)) not in SEEN_LATE

    with pytest.raises(ValueError if early else tf.errors.InvalidArgumentError) as raised:
        tf.nest.map_structure(np.asarray, run(lambda: op(wrong))())

    for text in ["SharedMatMulGrad:" if op is backward else "SharedMatMul:", *said]:
        assert text in str(raised.value)


@pytest.mark.parametrize("path", ["op"], indirect=True)
def test_the_ops_refuse_other_dtypes(path, still_right):
    whole = tf.ones([4, 4], tf.int32)

    with pytest.raises(tf.errors.InvalidArgumentError, match="int32 is not in the list"):
        loader.load().ops.shared_dense_shared_mat_mul(
            inputs=[whole], kernel=whole, biases=[], activations=["linear"]
        )


def test_an_unknown_attribute_of_the_package():
    with pytest.raises(AttributeError, match="has no attribute 'shared_matmuls'"):
        sd.shared_matmuls  # noqa: B018


@pytest.mark.parametrize("path", ["op"], indirect=True)
def test_sizes_that_multiply_past_int64(path, run, still_right):
    """TensorFlow's own matmul aborts the process here, so there is no fallback to try."""
    x, kernel = tf.zeros([2**40, 0]), tf.zeros([0, 2**30])
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        run(lambda: sd.shared_matmul([x], kernel))()


@pytest.mark.parametrize("path", ["op"], indirect=True)
def test_rows_that_add_up_past_int64(path, run, still_right):
    """Rows of no bytes, of which there may be that many."""
    x, kernel = tf.zeros([2**62, 0]), tf.zeros([0, 0])
    apply = run(lambda *xs: sd.shared_matmul(xs, kernel))
    assert apply(x)[0].shape == [2**62, 0]
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        apply(x, x)
    for text in ["inputs[1] has shape [4611686018427387904,0]", "together", "less than 2^63"]:
        assert text in raised.value.message
