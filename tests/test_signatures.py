"""SavedModels of several signatures: loaded by a process of its own, called by name on any rows."""

from __future__ import annotations

import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import warm
from oracle import Oracle
from test_loader import clean_environment

import shared_dense as sd

K, U = 4, 3
PATHS = ("op", "fallback")
ROWS = ((5, 2), (1, 1), (0, 3), (64, 65))
LOAD = """
import sys
import numpy as np
import tensorflow as tf
import shared_dense.load_op

folder, found = sys.argv[1], {}
batches = np.load(f"{folder}/batches.npz")
for path in ("op", "fallback"):
    model = tf.saved_model.load(f"{folder}/{path}")
    found[f"{path} names"] = sorted(model.signatures)
    for i in range(len(batches) // 2):
        a, b = (tf.constant(batches[f"{side}{i}"]) for side in "ab")
        calls = {
            "pair": model.signatures["pair"](left=a, right=b),
            "towers": model.signatures["towers"](item=b, query=a),
            "one": model.signatures["one"](x=a),
            "by call": dict(zip("ab", model.pair([a, b]))),
            "by dict": model.towers({"query": a, "item": b}),
            "serving_default": model.signatures["serving_default"](left=a, right=b),
        }
        for name, outputs in calls.items():
            for j, key in enumerate(sorted(outputs)):
                found[f"{path} {name} {i} {j}"] = outputs[key].numpy()
            found[f"{path} {name} {i} keys"] = sorted(outputs)
np.savez(f"{folder}/found.npz", **found)
"""


def spec(name):
    return tf.TensorSpec([None, K], tf.float32, name=name)


def layers_of():
    keras.utils.set_random_seed(0)
    shared = sd.SharedDense(U, activation="silu", bias_initializer="ones")
    towers = sd.SharedDense(
        U, activation="tanh", branches={"query": {}, "item": {"bias": None, "activation": "gelu"}}
    )
    shared([np.ones((1, K), "float32")] * 2)
    towers({name: np.ones((1, K), "float32") for name in ("query", "item")})
    return shared, towers


def export(shared, towers, folder):
    archive = keras.export.ExportArchive()
    archive.track(shared)
    archive.track(towers)
    pair = [[spec("left"), spec("right")]]
    archive.add_endpoint("pair", lambda xs: shared(xs), pair)
    archive.add_endpoint(
        "towers", lambda xs: towers(xs), [{name: spec(name) for name in ("query", "item")}]
    )
    archive.add_endpoint("one", lambda x: shared(x), [spec("x")])
    archive.write_out(folder, verbose=False)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """What the loading process found, with what it called and the layers that were exported."""
    folder = tmp_path_factory.mktemp("signatures")
    layers = layers_of()
    assert sd.status().last_path == "op"
    export(*layers, str(folder / "op"))
    with sd.fallback():
        export(*layers, str(folder / "fallback"))
    rng = np.random.default_rng(0)
    batches = {
        f"{side}{i}": rng.standard_normal((rows, K)).astype("float32")
        for i, pair in enumerate(ROWS)
        for side, rows in zip("ab", pair, strict=True)
    }
    np.savez(folder / "batches.npz", **batches)
    done = subprocess.run(
        [*warm.python(), "-W", "ignore", "-c", LOAD, str(folder)],
        env=clean_environment(PYTHONPATH=str(Path(sd.__file__).parents[1])),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(np.load(folder / "found.npz")), batches, layers


def exact_of(name, a, b, shared, towers):
    """The outputs by the order of their keys."""
    if name in ("towers", "by dict"):  # item, query
        kernel, bias = towers.kernel.numpy(), towers.bias.numpy()
        none = np.zeros_like(bias)
        return Oracle([b, a], kernel, [none, bias], ["gelu", "tanh"]).forward()
    xs = [a] if name == "one" else [a, b]
    return Oracle(xs, shared.kernel.numpy(), [shared.bias.numpy()], ["silu"]).forward()


KEYS = {
    "pair": ["output_0", "output_1"],
    "serving_default": ["output_0", "output_1"],
    "towers": ["item", "query"],
    "by dict": ["item", "query"],
    "by call": ["a", "b"],
    "one": ["output_0"],
}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("saved", PATHS)
def test_each_signature_on_any_rows(served, saved, name):
    found, batches, layers = served
    for i in range(len(ROWS)):
        assert list(found[f"{saved} {name} {i} keys"]) == KEYS[name]
        exact = exact_of(name, batches[f"a{i}"], batches[f"b{i}"], *layers)
        for j, wanted in enumerate(exact):
            wanted.check(found[f"{saved} {name} {i} {j}"])


def test_the_op_has_the_bits_of_the_process_that_saved(served):
    found, batches, (shared, _) = served
    for i in range(len(ROWS)):
        for j, y in enumerate(shared([batches[f"a{i}"], batches[f"b{i}"]])):
            np.testing.assert_array_equal(found[f"op pair {i} {j}"], y)


def test_all_signatures_are_there(served):
    for saved in PATHS:
        assert set(served[0][f"{saved} names"]) >= {"pair", "towers", "one", "serving_default"}
