"""Models saved by one process and loaded by another, with the op, without it, without the library.

`saving_models.py` says which models, and does the saving and the loading: two processes save all of
them, four load all that the two saved. The tests here judge what these left behind.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import keras
import ml_dtypes
import numpy as np
import pytest
import warm
from oracle import Exact, Oracle, roundoff
from saving_models import BATCH, CASES, FEWER, MOMENTUM, RATE, U, draw, far_targets, inputs_of

import shared_dense as sd

HERE = Path(__file__).parent
DOCUMENT = (HERE.parent / "docs/saving-and-serving.md").read_text()
PACKAGE = Path(sd.__file__).parent
SAVERS = ("op", "disabled")
# bare: the package without what is compiled; none: no package.
LOADERS = ("op", "disabled", "bare", "none")


class Report(NamedTuple):
    """What a process left: its arrays by key and place, and what it said."""

    arrays: dict
    said: dict

    def get(self, key):
        found = [self.arrays[f"{key}/{i}"] for i in range(len(self.arrays))
                 if f"{key}/{i}" in self.arrays]  # fmt: skip
        assert found, f"nothing under {key}"
        return found


def start(mode, what, folder, results, package):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SHARED_DENSE_")}
    environment |= {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": "" if mode == "none" else str(package.parent),
    }
    if mode == "disabled":
        environment["SHARED_DENSE_DISABLE"] = "1"
    arguments = [what, folder, results, *(["--refuse"] if mode == "none" else [])]
    return subprocess.Popen(
        [*warm.python(), "-W", "ignore", "saving_models.py", *map(str, arguments)],
        cwd=HERE,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes):
    """The reports of all; they run beside each other."""
    reports = {}
    for mode, (process, results) in processes.items():
        _, errors = process.communicate()
        assert process.returncode == 0, f"{mode}: {errors[-3000:]}"
        with np.load(f"{results}.npz") as arrays:
            said = json.loads(Path(f"{results}.json").read_text())
            reports[mode] = Report(dict(arrays), said)
    return reports


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="module")
def saved(folder, tmp_path_factory):
    results = tmp_path_factory.mktemp("savers")
    return finish(
        {
            mode: (start(mode, "save", folder / mode, results / mode, PACKAGE), results / mode)
            for mode in SAVERS
        }
    )


@pytest.fixture(scope="module")
def loaded(folder, saved, tmp_path_factory):
    results = tmp_path_factory.mktemp("loaders")
    bare = results / "bare_package" / "shared_dense"
    compiled = shutil.ignore_patterns("*.so", "_build_info.json", "__pycache__")
    shutil.copytree(PACKAGE, bare, ignore=compiled)
    packages = {"bare": bare}
    return finish(
        {
            mode: (
                start(mode, "load", folder, results / mode, packages.get(mode, PACKAGE)),
                results / mode,
            )
            for mode in LOADERS
        }
    )


# The formats that a process can save, and load; "lite" is made of the portable SavedModel.
SAVED_AS = {"op": ("keras", "weights", "op", "portable", "lite")}
SAVED_AS["disabled"] = tuple(form for form in SAVED_AS["op"] if form != "op")
LOADS = {
    "op": ("keras", "weights", "op", "portable"),
    "disabled": ("keras", "weights", "op", "portable"),
    "bare": ("keras", "weights", "portable"),
    "none": ("portable", "lite"),
}
MATRIX = [
    (saver, loader, name, form)
    for saver in SAVERS
    for loader in LOADERS
    for name, case in CASES.items()
    for form in SAVED_AS[saver]
    if form in LOADS[loader] and (form != "lite" or case.dtype == "float32")
]


def in_matrix(wanted=lambda saver, loader, name, form: True):
    cells = [cell for cell in MATRIX if wanted(*cell)]
    return pytest.mark.parametrize(
        "saver, loader, name, form", cells, ids=["-".join(cell) for cell in cells]
    )


def on_op(saver, loader, name, form):
    """Whether the op computes before and after."""
    del name
    return saver == "op" and (form == "op" or (loader == "op" and form in ("keras", "weights")))


def seen_by_op(case, arrays):
    """The numbers as the layer's dtype has them."""
    if case.dtype == "bfloat16":
        arrays = [a.astype(ml_dtypes.bfloat16).astype("float32") for a in arrays]
    return [a.astype("float64") if case.dtype == "float64" else a for a in arrays]


def rescaled(case, exact, terms):
    """The bound of float32 for bfloat16: that dtype's roundoff at every step."""
    if case.dtype != "bfloat16":
        return exact
    u = 2.0**-8
    return Exact(exact.value, exact.bound * (u / roundoff("float32") / (1 - terms * u)))


def oracles(case, weights, outputs, batch=BATCH):
    """Each product with its oracle; an output that is an input counts as it came."""
    x = seen_by_op(case, keras.tree.flatten(inputs_of(case, batch))) + outputs
    weights = seen_by_op(case, weights)
    for product in case.products:
        kernel, xs = weights[product.kernel], [x[i] for i in product.inputs]
        none = np.zeros(U, kernel.dtype)
        biases = [none if i is None else weights[i] for i in product.biases]
        names = list(product.activations)
        yield product, Oracle(xs, kernel, biases, names, product.transposed)


def check_outputs(case, weights, outputs, batch=BATCH):
    checked = set()
    for product, oracle in oracles(case, weights, outputs, batch):
        for i, exact in zip(product.outputs, oracle.forward(), strict=True):
            rescaled(case, exact, len(weights[product.kernel]) + 2).check(outputs[i])
            checked.add(i)
    assert checked == set(range(len(outputs)))


def gradients_of(case, weights, outputs):
    """Exact gradients of the sum of the mean absolute errors, in the order of the weights."""
    # No output is as far away as its target: a slope is a sign, over how many there are.
    dys = [-np.sign(t) / t.size for t in far_targets(outputs)]
    for i in case.without_loss:
        dys[i] *= 0
    grads = [Exact(np.zeros(w.shape), np.zeros(w.shape)) for w in weights]
    for product, oracle in oracles(case, weights, outputs):
        rows = sum(len(x) for x in oracle.xs)
        dbias = oracle.backward([dys[i] for i in product.outputs])["dbias"]
        trains = [dys[i] * (i not in product.untrained) for i in product.outputs]
        parts = [(product.kernel, oracle.backward(trains)["dkernel"])]
        parts += zip(product.biases, dbias, strict=True)
        for i, exact in parts:
            if i is not None:
                exact = rescaled(case, exact, rows + 2)
                grads[i] = Exact(grads[i].value + exact.value, grads[i].bound + exact.bound)
    return grads


def same_bits(got, wanted):
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


@in_matrix()
def test_outputs(saved, loaded, saver, loader, name, form):
    case, key = CASES[name], f"{saver}/{name}/{form}"
    before, after = saved[saver], loaded[loader]
    weights = before.get(f"{name}/weights")
    if form != "lite":  # which holds constants
        same_bits(after.get(f"{key}/weights"), weights)
    check_outputs(case, weights, after.get(f"{key}/outputs"))
    check_outputs(case, weights, after.get(f"{key}/fewer"), FEWER)


@in_matrix(on_op)
def test_bits_of_the_op(saved, loaded, saver, loader, name, form):
    """Row invariance: the bits of a row are the same in another process, among fewer rows too."""
    wanted = saved[saver].get(f"{name}/outputs")
    after, key = loaded[loader], f"{saver}/{name}/{form}"
    same_bits(after.get(f"{key}/outputs"), wanted)
    same_bits(after.get(f"{key}/fewer"), [y[:FEWER] for y in wanted])


@in_matrix(lambda saver, loader, name, form: form == "keras")
def test_training_goes_on(saved, loaded, saver, loader, name, form):
    case, key = CASES[name], f"{saver}/{name}/{form}"
    before, after = saved[saver], loaded[loader]
    weights, state = before.get(f"{name}/weights"), before.get(f"{name}/optimizer")
    trained = after.get(f"{key}/trained")

    same_bits(after.get(f"{key}/optimizer"), state)
    assert state[0] == 2  # steps before it was saved
    if loader == saver == "op":
        same_bits(trained, before.get(f"{name}/trained"))
    # The weights are kept in float32 where the layer computes in bfloat16.
    u = roundoff(weights[0].dtype)
    grads = gradients_of(case, weights, before.get(f"{name}/outputs"))
    for w, momentum, g, got in zip(weights, state[2:], grads, trained, strict=True):
        step = MOMENTUM * momentum.astype("float64") - RATE * g.value
        slack = RATE * g.bound + 4 * u * (
            np.abs(w) + MOMENTUM * np.abs(momentum) + RATE * (np.abs(g.value) + g.bound)
        )
        Exact(w + step, slack).check(got)


def served(saver, loader, name, form):
    return form in ("op", "portable")


@in_matrix(served)
def test_gradients_of_a_loaded_graph(saved, loaded, saver, loader, name, form):
    case, before = CASES[name], saved[saver]
    grads = gradients_of(case, before.get(f"{name}/weights"), before.get(f"{name}/outputs"))
    found = loaded[loader].get(f"{saver}/{name}/{form}/gradients")
    for exact, got in zip(grads, found, strict=True):
        # The slope 1/n itself is a rounded float32, and the sum over kernels' parts one more.
        slack = 4 * roundoff("float32" if case.dtype == "bfloat16" else got.dtype)
        Exact(exact.value, exact.bound * (1 + slack) + slack * np.abs(exact.value)).check(got)


@in_matrix(served)
def test_all_ways_to_call_a_served_model(saved, loaded, saver, loader, name, form):
    """Its endpoint, its signature by names, a TFSMLayer give the same; and no rows give none."""
    case, after, key = CASES[name], loaded[loader], f"{saver}/{name}/{form}"
    outputs = after.get(f"{key}/outputs")
    for way in ("served", "layer"):
        check_outputs(case, saved[saver].get(f"{name}/weights"), after.get(f"{key}/{way}"))
        if form == "op":  # TensorFlow's own ops may be optimised in one way here, in another there
            same_bits(after.get(f"{key}/{way}"), outputs)
    assert [y.shape for y in after.get(f"{key}/none")] == [(0, *y.shape[1:]) for y in outputs]
    assert after.said[f"{key}/inputs"] == sorted(keras.tree.flatten(case.structure))


@pytest.mark.parametrize("form", ["op", "portable"])
def test_signatures_name_what_the_model_names(loaded, form):
    said = loaded["op"].said
    assert said[f"op/dict/{form}/inputs"] == said[f"op/dict/{form}/outputs"] == ["item", "query"]
    assert said[f"op/list/{form}/outputs"] == ["output_0", "output_1"]
    kinds = [f"{kind}_{name}" for kind in ("box", "score") for name in ("item", "query")]
    assert said[f"op/subclassed/{form}/outputs"] == kinds


TRAINERS = [(s, x, f) for s, x, name, f in MATRIX if name == "list" and served(s, x, name, f)]


@pytest.mark.parametrize("saver, loader, form", TRAINERS)
def test_a_saved_training_step(loaded, saver, loader, form):
    after, key = loaded[loader], f"{saver}/trainer/{form}"
    x = inputs_of(CASES["list"])
    kernel, bias = draw(0, (x[0].shape[-1], U)), draw(1, (U,))
    oracle = Oracle(x, kernel, [bias], ["gelu"])
    grads = oracle.backward([draw(2, (*a.shape[:-1], U)) for a in x])
    for got, exact in zip(after.get(f"{key}/outputs"), oracle.forward(), strict=True):
        exact.check(got)
    trained = after.get(f"{key}/trained")
    for got, w, g in zip(trained, (kernel, bias), (grads["dkernel"], *grads["dbias"]), strict=True):
        rounding = 2 * roundoff("float32") * (np.abs(w) + RATE * np.abs(g.value))
        Exact(w - RATE * g.value, RATE * g.bound + rounding).check(got)


def ops_in(folder):
    """The types of all ops of a SavedModel, in its functions too."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    model = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graphs = [graph.graph_def for graph in model.meta_graphs]
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [n for graph in graphs for f in graph.library.function for n in f.node_def]
    return {node.op for node in nodes}


@pytest.mark.parametrize("name", [*CASES, "trainer"])
def test_what_is_in_the_graph(saved, folder, name):
    ours = {"SharedDense>SharedMatMul"}
    ours |= {"SharedDense>SharedMatMulGrad"} if name == "trainer" else set()
    several = name == "trainer" or any(len(p.inputs) > 1 for p in CASES[name].products)
    ours |= {"SharedDense>SharedMatMulOutput"} if several else set()

    def found(form):
        return {op for op in ops_in(folder / form) if "Shared" in op}

    assert found(f"op/{name}/op") == ours
    for saver in SAVERS:
        assert "MatMul" in ops_in(folder / f"{saver}/{name}/portable")
        assert not found(f"{saver}/{name}/portable")


def quoted(error, wanted):
    """Whether an error says this, and the document shows it."""
    words = " ".join(error.split())
    assert " ".join(wanted.split()) in words
    assert " ".join(wanted.split()) in " ".join(DOCUMENT.split())


@pytest.mark.parametrize("loader", LOADERS)
def test_what_one_sees_without_the_op(loaded, loader):
    quoted(loaded[loader].said["no op"], "Op type not registered 'SharedDense>SharedMatMul'")


@pytest.mark.parametrize("loader", ["op", "disabled"])
def test_the_import_loads_the_op(loaded, loader):
    assert loaded[loader].said["import"] == ""
    assert "import shared_dense.load_op" in DOCUMENT
    # Its calls take the way they would without.
    assert loaded[loader].said["path"] == ("op" if loader == "op" else "fallback")


def test_the_import_says_why_it_cannot(loaded):
    error = loaded["bare"].said["import"]
    assert error.startswith("ImportError: ")
    quoted(
        error, "the op SharedDense>SharedMatMul cannot be loaded: this is the Python-only package"
    )
    assert "pip install" in error and "shared_dense.fallback()" in error
    assert loaded["bare"].said["path"] == "fallback"


def test_nothing_is_installed_where_nothing_should_be(loaded):
    said = loaded["none"].said
    assert said["import"].startswith("ModuleNotFoundError: ")
    assert not said["opened"]
    assert Path(loaded["bare"].said["from"]).parent != PACKAGE
    quoted(said["keras"], "Could not locate class 'SharedDense'.")


def test_what_the_lite_converter_says_of_the_op(loaded):
    quoted(
        loaded["op"].said["converter"], "'tf.SharedDense>SharedMatMul' op is neither a custom op"
    )
