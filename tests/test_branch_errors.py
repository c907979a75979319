"""What SharedDense(branches=...) refuses, and that it says what is wrong."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from test_branches import TABLE, U, arrays, built

import shared_dense as sd

NAMES = "'query', 'document', 'title', 'image', 'icon'"
CALLS = {
    "list": (lambda t: [t(None, 4)], ["inputs is a list", "takes a dict", NAMES]),
    "tensor": (lambda t: t(None, 4), ["inputs is one tensor", "takes a dict", NAMES]),
    "None": (lambda t: None, ["inputs is None or empty", NAMES]),
    "misspelt": (lambda t: {"qeury": t(None, 4)}, ["'qeury'", "did you mean 'query'", NAMES]),
    "unlike": (lambda t: {"xyz": t(None, 4)}, ["'xyz'", "none of the branches. ", NAMES]),
    "None in it": (lambda t: {"query": t(None, 4), "title": None}, ["inputs['title'] is None"]),
    "empty part": (lambda t: {"query": []}, ["holds no tensor"]),
    "rank": (lambda t: {"query": t(4)}, ["inputs['query'] has shape (4,)", "x[None]"]),
    "width": (
        lambda t: {"query": t(None, 4), "document": t(None, 7)},
        ["inputs['document']", "width 7", "has width 4", "kernel 'text'"],
    ),
}


@pytest.mark.parametrize("is_built", [False, True], ids=["unbuilt", "built"])
@pytest.mark.parametrize("symbolic", [False, True], ids=["eager", "symbolic"])
@pytest.mark.parametrize("case", CALLS)
def test_errors_of_calls(rng, case, symbolic, is_built):
    def tensor(*shape):
        if symbolic:
            return keras.KerasTensor(shape)
        return np.ones([2 if size is None else size for size in shape], "float32")

    make, pieces = CALLS[case]
    layer = (
        built(rng, name="tower") if is_built else sd.SharedDense(U, branches=TABLE, name="tower")
    )
    with pytest.raises(ValueError) as error:
        layer(make(tensor))
    if case == "width":
        pieces = [*pieces, "this layer's kernel 'text'" if is_built else "inputs['query'] has"]
    for piece in ['SharedDense layer "tower"', *pieces]:
        assert piece in str(error.value)


@pytest.mark.parametrize("is_built", [False, True])
def test_an_empty_dict_is_refused(rng, is_built):
    layer = built(rng) if is_built else sd.SharedDense(U, branches=TABLE)
    with pytest.raises(ValueError, match="empty"):
        layer({})


def test_a_built_layer_makes_no_weights(path, rng):
    layer, x = sd.SharedDense(U, branches=TABLE), arrays(rng)
    layer({"title": x["title"]})
    assert [w.name for w in layer.weights] == ["text_kernel", "bias", "document_bias"]
    with pytest.raises(ValueError) as error:
        layer(x)
    for piece in ["inputs['image']", "kernel 'image'", "'icon': (None, width)", "in_features"]:
        assert piece in str(error.value)
    said = {**TABLE, "image": {**TABLE["image"], "in_features": 6}}
    layer = sd.SharedDense(U, branches=said)
    layer({"title": x["title"]})
    assert layer(x)["icon"].shape == (2, 1, 2, U)
    with pytest.raises(ValueError, match=r"branches\['image'\] has width 6"):
        sd.SharedDense(U, branches=said)({"icon": np.ones((2, 7))})


TABLES = {
    "empty": ({}, ["branches={}", "wanted a dict"]),
    "a list": (["query"], ["branches=['query']", "wanted a dict"]),
    "a spec that is none": ({"q": None}, ["branches['q'] is None", "'trains_kernel'"]),
    "a misspelt key": ({"q": {"kernal": "t"}}, ["'kernal'", "did you mean 'kernel'"]),
    "an unlike key": ({"q": {"xyz": 1}}, ["unknown key 'xyz'. ", "'in_features'"]),
    "a kernel that is no name": ({"q": {"kernel": 3}}, ["branches['q']['kernel'] is 3"]),
    "no kernel": ({"q": {"kernel": None}}, ["branches['q']['kernel'] is None"]),
    "a slash": ({"q": {"bias": "a/b"}}, ["branches['q']['bias']", "'a/b'", "no '/'"]),
    "a name that is none": ({3: {}}, ["name is 3", "wanted a string"]),
    "trains_kernel": ({"q": {"trains_kernel": 0}}, ["['trains_kernel'] is 0", "True or False"]),
    "in_features": ({"q": {"in_features": 2.0}}, ["['in_features'] is 2.0", "positive integer"]),
    "two widths": (
        {"q": {"in_features": 2}, "d": {"in_features": 3}},
        ["branches['d'] has in_features=3", "branches['q'] has in_features=2", "kernel 'kernel'"],
    ),
    "activation": ({"q": {"activation": "rellu"}}, ["branches['q']: activation=", "rellu"]),
}


@pytest.mark.parametrize("case", TABLES)
def test_errors_of_tables(case):
    branches, pieces = TABLES[case]
    with pytest.raises(ValueError) as error:
        sd.SharedDense(U, branches=branches, name="tower")
    for piece in ['SharedDense layer "tower"', *pieces]:
        assert piece in str(error.value)


@pytest.mark.parametrize(
    "make, error",
    [
        (lambda _: sd.SharedDense(U, branches=TABLE, lora_rank=2), ValueError),
        (lambda _: sd.SharedDense(U, branches=TABLE, dtype="int8_from_float32"), ValueError),
        (lambda layer: layer.enable_lora(2), ValueError),
        (lambda layer: layer.to_dense(), ValueError),
        # Which model.quantize takes for a layer to leave alone.
        (lambda layer: layer.quantize("int8"), NotImplementedError),
    ],
)
def test_what_branches_do_not_go_with(rng, make, error):
    with pytest.raises(error, match="does not go with branches"):
        make(built(rng))
