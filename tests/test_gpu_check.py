"""Checks on a user's machine: they find what is wrong, and then GPU kernels are refused."""

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import warm
from oracle import Oracle

import shared_dense as sd
from shared_dense.runtime import gpu, gpu_check, loader
from shared_dense.runtime.exactness import Problem

DTYPES = [tf.float32, tf.float64, tf.bfloat16, tf.float16]
SMALL = (((1, 3), 72, 40, False), ((5, 0, 33, 2), 37, 29, True))


def op():
    return loader.load().ops.shared_dense_shared_mat_mul


def checked(changed=None, devices=("CPU:0",)):
    """The verdict on the op, or on one whose outputs `changed` makes."""

    def call(**arguments):
        outputs = op()(**arguments).outputs
        return SimpleNamespace(outputs=changed(outputs) if changed else outputs)

    return gpu_check.check(SimpleNamespace(shared_dense_shared_mat_mul=call), list(devices))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(gpu_check, "_SHAPES", SMALL)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
def test_values_are_those_of_the_oracle(dtype, transposed):
    problem = Problem((5, 0, 3), 37, 29, dtype, transposed)
    xs, kernel, bias, dys = tf.nest.map_structure(
        lambda t: t.numpy().astype(np.float64), problem.operands()
    )
    oracle = Oracle(xs, kernel, [bias], problem.activations, transposed)
    backward = oracle.backward(dys)
    wanted = {f"output {i}": e for i, e in enumerate(oracle.forward())}
    wanted |= {f"input gradient {i}": e for i, e in enumerate(backward["dx"])}
    wanted |= {"kernel gradient": backward["dkernel"], "bias gradient": backward["dbias"][0]}
    exact = problem.exact()
    assert exact.keys() == wanted.keys()
    for name, (value, bound) in exact.items():
        np.testing.assert_allclose(value, wanted[name].value, rtol=1e-12, atol=1e-12)
        assert bound.shape == value.shape and (bound > 0).all()
        # A bound that says something: a few roundings of the storage type, or of a sum.
        u = {2: 2.0**-8, 4: 2.0**-23, 8: 2.0**-53}[dtype.size]
        assert (bound <= 60 * 40 * u * (1 + np.abs(value).max(initial=0))).all()


def test_tf32_has_a_wider_bound():
    problem = Problem((4, 2), 30, 20)
    narrow, wide = problem.exact(), problem.exact(tf32=True)
    for name, exact in wide.items():
        np.testing.assert_array_equal(exact.value, narrow[name].value)
        if name != "bias gradient":  # no product
            assert (exact.bound > 20 * narrow[name].bound).all()


def test_the_op_passes():
    verdict = checked()
    assert verdict.reason == ""
    assert verdict.summary.startswith("right on CPU:0, at most 0.")


def one_item_off(by):
    def changed(outputs):
        last = outputs[-1]
        mask = np.zeros(last.shape)
        mask[-1, -1] = by
        return [*outputs[:-1], last + tf.cast(mask, last.dtype)]

    return changed


def test_one_wrong_output_is_found():
    verdict = checked(one_item_off(0.05))
    assert "wrong results on CPU:0: float32, rows 1+3, 72 -> 40" in verdict.reason
    assert "the output 1 is off by" in verdict.reason
    assert verdict.summary == ""


def test_a_value_that_is_not_written_is_found():
    assert "off by inf" in checked(one_item_off(np.nan)).reason


def test_a_wrong_gradient_is_found():
    @tf.custom_gradient
    def twice_backward(y):
        return tf.identity(y), lambda dy: 2 * dy

    verdict = checked(lambda outputs: [twice_backward(y) for y in outputs])
    assert "wrong results" in verdict.reason and "gradient" in verdict.reason


def test_an_error_is_told():
    def failing(outputs):
        raise tf.errors.InternalError(None, None, "SharedMatMul on a CUDA device: no image")

    reason = checked(failing).reason
    assert "float32, rows 1+3, 72 -> 40 failed on CPU:0" in reason
    assert "CUDA device: no image" in reason


def test_another_device_is_no_check():
    """Soft placement would have the CPU pass for a GPU."""
    reason = checked(devices=("GPU:0",)).reason
    assert "failed on GPU:0: the op ran on /job" in reason and "CPU:0" in reason


def test_both_settings_of_tf32_are_checked_and_restored():
    allowed = tf.config.experimental.tensor_float_32_execution_enabled
    seen = []

    def noted(outputs):
        seen.append((outputs[0].dtype.name, allowed()))
        return outputs

    for before in (True, False):
        tf.config.experimental.enable_tensor_float_32_execution(before)
        try:
            assert checked(noted).reason == ""
            assert allowed() is before
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(True)
    assert {flag for name, flag in seen if name == "float32"} == {True, False}


def test_nothing_of_the_caller_reaches_the_check():
    with tf.GradientTape(persistent=True) as tape, tf.Graph().as_default():
        x = tf.constant(1.0)
        tape.watch(x)
        assert checked().reason == ""
        assert {op.type for op in tf.compat.v1.get_default_graph().get_operations()} == {"Const"}


@pytest.mark.parametrize(
    ("driver", "built", "said"),
    [
        ("12.5", "13.0", "built with CUDA 13.0, and the driver of this machine knows CUDA 12.5"),
        ("12.0", "12.9", ""),
        ("13.1", "13.0", ""),
        ("13.0", "12.4", ""),
        ("", "13.0", ""),
        ("12.5", "", ""),
    ],
)
def test_a_driver_older_than_the_kernels_is_told(driver, built, said, monkeypatch):
    monkeypatch.setattr(gpu, "_driver_cuda", lambda: driver)
    monkeypatch.setattr(loader, "build_info", lambda: {"cuda": True, "cuda_version": built})
    reason = gpu._driver_too_old()
    assert bool(said) == bool(reason) and said in reason
    if said:
        assert "580" in reason and "nvcc of a CUDA 12 toolkit" in reason


def test_the_library_is_not_opened_on_an_old_driver(monkeypatch):
    monkeypatch.setattr(gpu, "_driver_cuda", lambda: "11.8")
    monkeypatch.setattr(loader, "build_info", lambda: {"cuda": True, "cuda_version": "12.4"})
    monkeypatch.setenv("SHARED_DENSE_GPU", "1")
    monkeypatch.setattr(tf, "load_op_library", lambda path: pytest.fail(f"opened {path}"))
    state = gpu.load.__wrapped__()
    assert "CUDA 11.8" in state.reason and state.check == "never run on a GPU"


# A machine that claims to have a GPU: the kernels register, and their check cannot succeed.
REFUSED = """
import warnings
import tensorflow as tf
claimed = [tf.config.LogicalDevice("/device:GPU:0", "GPU")]
visible, logical = tf.config.get_visible_devices, tf.config.list_logical_devices
tf.config.get_visible_devices = lambda kind=None: (
    [tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")] if kind == "GPU" else visible(kind))
tf.config.list_logical_devices = lambda kind=None: claimed if kind == "GPU" else logical(kind)
tf.config.experimental.get_device_details = lambda device: {"compute_capability": (9, 0)}
import shared_dense as sd
from shared_dense.runtime import gpu, paths

x, w = tf.Variable(tf.ones([2, 3])), tf.Variable(tf.ones([3, 4]))

def step():
    with tf.GradientTape() as tape:
        y = sd.shared_matmul([x], w, activation="silu")[0]
    return y, tape.gradient(y, [x, w])

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    tf.function(step)()
said = [str(w.message) for w in caught if "plain TensorFlow ops" in str(w.message)]
assert len(said) == 1 and "their check on this machine failed" in said[0], said
assert "the op ran on" in said[0] and "float32, rows 1+3" in said[0], said
assert paths.last().name == "fallback"
status = sd.status()
assert "their check on this machine failed" in status.gpu and status.gpu_check == status.gpu
assert status.dtypes["GPU"] == () and gpu.refused()

y, (dx, dw) = step()  # eager, on the CPU
assert paths.last().name == "op", paths.last()
assert all("CPU:0" in t.device for t in (y, dx, dw))
graph = tf.Graph()
with graph.as_default(), paths.placed():
    ones = tf.ones([2, 3])
    assert "CPU:0" in ones.device
print("well")
"""


def test_kernels_that_fail_their_check_are_refused():
    if not loader.build_info().get("cuda"):
        pytest.skip("built without CUDA")
    environment = {**os.environ, "SHARED_DENSE_GPU": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [*warm.python(), "-c", REFUSED], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "well\n", done.stderr[-3000:]


@pytest.mark.parametrize("refused", [True, False])
def test_op_and_gradients_are_kept_from_kernels_refused(refused, monkeypatch):
    """In a graph, where TensorFlow would choose. silu makes its pre-activation once more."""
    monkeypatch.setattr(gpu, "_refused", refused)
    with tf.Graph().as_default() as graph:
        x, w = tf.ones([2, 3]), tf.ones([3, 4])
        y = op()(
            inputs=[x], kernel=w, biases=[], activations=["silu"], transpose_kernel=False,
            bias_of=[], trains_kernel=[], num_pre_activations=0,
        ).outputs  # fmt: skip
        tf.gradients(y, [x, w])
        sd.shared_matmul([x], w)
    # All but the first, a loaded graph's own.
    ours = [node for node in graph.get_operations() if node.type.startswith("SharedDense>")][1:]
    assert [node.type.partition(">")[2] for node in ours].count("SharedMatMul") == 2
    assert len(ours) == 3
    assert {node.device for node in ours} == {"/device:CPU:0" if refused else ""}


def test_by_themselves_they_run_where_tensorflow_likes():
    from shared_dense.runtime import paths

    assert not gpu.refused()
    with paths.placed(), tf.Graph().as_default():
        assert tf.ones([1]).device == ""
