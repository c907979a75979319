"""Which path is taken, where it is decided and how far a decision reaches."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

import shared_dense as sd
from shared_dense.runtime import paths


def call():
    x = tf.ones([2, 3])
    return sd.shared_matmul([x, 2 * x], tf.ones([3, 4]))


def taken():
    call()
    return paths.last().name


def test_fallback_holds_inside_and_ends():
    with sd.fallback():
        assert taken() == "fallback"
        with sd.fallback():
            assert taken() == "fallback"
        assert taken() == "fallback"
    assert taken() == "op"


def test_fallback_ends_with_an_error():
    with pytest.raises(KeyError), sd.fallback():
        raise KeyError
    assert taken() == "op"


def test_fallback_reaches_other_threads():
    seen = []
    with sd.fallback():
        thread = threading.Thread(target=lambda: seen.append(taken()))
        thread.start()
        thread.join()
    assert seen == ["fallback"]


def test_what_is_traced_inside_stays_portable():
    with sd.fallback():
        portable = tf.function(call).get_concrete_function()
    fused = tf.function(call).get_concrete_function()

    def kinds(function):
        return {op.type for op in function.graph.get_operations()}

    assert "SharedDense>SharedMatMul" in kinds(fused)
    assert "SharedDense>SharedMatMul" not in kinds(portable)
    for a, b in zip(fused(), portable(), strict=True):
        tf.debugging.assert_near(a, b)


def test_disabling_is_seen_at_once(monkeypatch):
    monkeypatch.setattr(paths, "_warned", set())
    monkeypatch.setenv("SHARED_DENSE_DISABLE", "1")
    with pytest.warns(RuntimeWarning, match="unset it"):
        assert taken() == "fallback"
    assert not sd.status().available
    monkeypatch.delenv("SHARED_DENSE_DISABLE")
    assert taken() == "op"
    assert sd.status().available


def test_a_gpu_without_kernels_takes_the_fallback(monkeypatch):
    """What a machine with a GPU would decide: TensorFlow would move the op to the CPU silently."""
    monkeypatch.setattr(paths, "_gpu_visible", lambda: True)
    monkeypatch.setattr(paths, "_warned", set())

    @tf.function
    def placed_by_tensorflow():
        return call()

    with pytest.warns(RuntimeWarning, match="no kernel on GPU: "):
        placed_by_tensorflow()
    assert paths.last().name == "fallback"
    assert taken() == "op", "eager tensors on the CPU stay there"


def test_what_keras_computes_is_said():
    layer = sd.SharedDense(3)
    layer(tf.ones([2, 4]))
    assert paths.last().name == "op"
    layer.quantize("int8")
    layer([tf.ones([2, 4])])
    assert sd.status().last_path == "keras"
    assert "int8" in sd.status().last_reason


def test_every_layer_has_its_own_path():
    by_op, plain, by_keras = (sd.SharedDense(3, name=f"own path {i}") for i in range(3))
    by_op.build((None, 4))
    by_keras.build((None, 4))
    by_keras.quantize("int8")
    by_op([tf.ones([2, 4])])
    by_keras([tf.ones([2, 4])])
    with sd.fallback():
        plain([tf.ones([2, 4])])
    said = sd.status().layers
    assert said["own path 0"].startswith("op (float32 on CPU")
    assert said["own path 1"] == "fallback (inside shared_dense.fallback())"
    assert said["own path 2"].startswith("keras (") and "int8" in said["own path 2"]
    again = sd.SharedDense(3, name="own path 0")  # as of a model that is loaded again
    again([tf.ones([2, 4])])
    with sd.fallback():
        again([tf.ones([2, 4])])
    said = sd.status().layers
    assert said["own path 0"].startswith("op (") and said["own path 0 (2)"].startswith("fallback")
    lines = [line.strip() for line in str(sd.status()).splitlines()]
    assert f"own path 2: {said['own path 2']}" in lines
    assert sd.Shared(tf.keras.layers.ReLU(), name="none")([tf.ones([2, 4])])
    assert "none" not in sd.status().layers
    with sd.fallback():
        by_op(tf.ones([2, 4]))
    assert sd.status().layers["own path 0"].startswith("fallback")


def test_every_layer_has_its_own_path_in_threads_too():
    """While others call, and while layers come and go."""
    layers = [sd.SharedDense(2, name=f"thread {t}", dtype=t) for t in ("float32", "float64")]
    for layer in layers:
        layer.build((None, 3))
    stop = threading.Event()

    def call(layer):
        while not stop.is_set():
            layer([np.ones((2, 3))])

    def come_and_go():
        while not stop.is_set():
            sd.SharedDense(2, name="brief")([np.ones((2, 3))])

    with ThreadPoolExecutor(3) as pool:
        futures = [*(pool.submit(call, layer) for layer in layers), pool.submit(come_and_go)]
        try:
            for _ in range(300):
                said = sd.status().layers
                for dtype in ("float32", "float64"):
                    found = said.get(f"thread {dtype}", f"op ({dtype} on CPU)")
                    assert found == f"op ({dtype} on CPU)"
        finally:
            stop.set()
        for future in futures:
            future.result()


def test_the_status_says_what_works(monkeypatch):
    status = sd.status()
    rows = dict(line.split(None, 1) for line in str(status).splitlines())
    assert status.xla == "" and rows["xla"] == "compiled functions take the op"
    assert rows["gpu"] == status.gpu != ""


def test_the_warning_of_a_layer_points_here(monkeypatch):
    monkeypatch.setattr(paths, "_warned", set())
    monkeypatch.setitem(paths.OP_DTYPES, "CPU", ("float32",))
    layer = sd.SharedDense(3, dtype="bfloat16")
    with pytest.warns(RuntimeWarning, match="bfloat16") as warned:
        layer(tf.ones([2, 4], tf.bfloat16))
    assert [w.filename for w in warned] == [__file__]
