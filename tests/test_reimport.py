"""The package imported again, reloaded, or twice from two places: in one process, without harm.

Each case runs in a fork of a process that has imported TensorFlow, whose import would else be most
of the running time.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import warm
from test_loader import PACKAGE, clean_environment

ELSEWHERE = "is registered already, by another copy"


def purge():
    """Forgets the package, as tools that restart a program do."""
    for name in [n for n in sys.modules if n.partition(".")[0] == "shared_dense"]:
        del sys.modules[name]


def import_from(folder):
    """The package of a folder, and none that was imported before."""
    purge()
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    import shared_dense

    sys.path.remove(str(folder))
    assert Path(shared_dense.__file__).parent.parent == Path(folder)
    return shared_dense


def right(sd):
    """Forward, first and second order of a call and of a layer, against TensorFlow's own ops.

    Small whole numbers: exact in any order of sums.
    """
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)
    whole = lambda *shape: tf.constant(rng.integers(-2, 3, shape).astype("float32"))  # noqa: E731
    xs, kernel, bias = [whole(3, 5), whole(2, 5)], whole(5, 4), whole(4)
    layer = sd.SharedDense(4, activation="relu")
    layer.build((None, 5))
    layer.set_weights([kernel, bias])

    def derivatives(function):
        with tf.GradientTape(persistent=True) as outer:
            outer.watch([xs, kernel, bias])
            with tf.GradientTape() as inner:
                inner.watch([xs, kernel, bias])
                outputs = function(xs)
                total = tf.add_n([tf.reduce_sum(y * y) for y in outputs])
            first = inner.gradient(total, xs)
            size = tf.add_n([tf.reduce_sum(g * g) for g in first])
        return [*outputs, *first, *outer.gradient(size, xs)]

    wanted = derivatives(lambda xs: [tf.nn.relu(x @ kernel + bias) for x in xs])
    for found in (
        derivatives(lambda xs: sd.shared_matmul(xs, kernel, bias, "relu")),
        tf.function(lambda: derivatives(lambda xs: layer(list(xs))), jit_compile=True)(),
    ):
        for got, exact in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(got, exact)


def again_and_again(first, other):
    for _ in range(3):
        sd = import_from(first)
        right(sd)
    return sd


def the_old_one_still_works(first, other):
    old = import_from(first)
    right(old)
    right(import_from(first))
    return old


def reload_everything(first, other):
    """Each module in turn, as an editor's autoreload does."""
    sd = import_from(first)
    right(sd)
    for name in sorted(n for n in sys.modules if n.startswith("shared_dense.")):
        if not name.endswith("._core"):  # Python reloads no compiled module
            importlib.reload(sys.modules[name])
    return importlib.reload(sd)


def load_op_twice(first, other):
    sd = import_from(first)
    import shared_dense.load_op

    importlib.reload(shared_dense.load_op)
    sd = import_from(first)
    import shared_dense.load_op

    return sd


def opened_by_hand(first, other):
    """`tf.load_op_library` on the library's file, before and after."""
    import tensorflow as tf

    (file,) = (Path(first) / "shared_dense").glob("_ops_tf*.so")
    tf.load_op_library(str(file))
    sd = import_from(first)
    right(sd)
    tf.load_op_library(str(file))
    return sd


def through_a_link(first, other):
    right(import_from(first))
    link = Path(other).parent / "link"
    link.symlink_to(first)
    purge()
    sys.path.insert(0, str(link))
    import shared_dense

    return shared_dense


def two_copies(first, other):
    right(import_from(first))
    return import_from(other)


def first_of_two_copies(first, other):
    """The copy that came first, with the other one used meanwhile."""
    old = import_from(first)
    right(old)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the other one's path
        right(import_from(other))
    return old


def after_an_unbuilt_copy(first, other):
    """Which registers nothing in the place of the one that has the op."""
    unbuilt = Path(other).parent / "unbuilt" / "shared_dense"
    shutil.copytree(Path(other) / "shared_dense", unbuilt, ignore=shutil.ignore_patterns("*.so"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        right(import_from(unbuilt.parent))
    return import_from(first)


def a_copy_opened_by_hand(first, other):
    import tensorflow as tf

    (file,) = (Path(other) / "shared_dense").glob("_ops_tf*.so")
    tf.load_op_library(str(file))
    return import_from(first)


CASES = {
    again_and_again: "op",
    the_old_one_still_works: "op",
    reload_everything: "op",
    load_op_twice: "op",
    opened_by_hand: "op",
    through_a_link: "op",
    two_copies: "fallback",
    first_of_two_copies: "op",
    a_copy_opened_by_hand: "fallback",
    after_an_unbuilt_copy: "op",
}


def use(argument):
    """What `fork_all` reports of a case."""
    case, first, other = argument
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sd = globals()[case](first, other)
        right(sd)
    ours = [str(w.message) for w in caught if "shared_dense runs" in str(w.message)]
    # Of this copy: status() looks for modules by their names, which may be those of another.
    paths = sd.shared_matmul.__globals__["paths"]
    loader = paths.loader
    report = {
        "path": paths.last().name,
        "reason": loader.load().reason,
        "xla": loader.load_xla(),
        "warned": ours,
    }
    if sd is sys.modules["shared_dense"]:
        try:
            importlib.import_module("shared_dense.load_op")
        except ImportError as error:
            report["load_op"] = str(error)
    return report | {"served": served(sd, Path(other).parent / f"{case}.keras")}


def served(sd, file):
    """Whether a model of the layer is saved and loaded as this copy's."""
    import keras

    inputs = [keras.Input((4,)), keras.Input((4,))]
    keras.Model(inputs, sd.SharedDense(2)(inputs)).save(file)
    (layer,) = (x for x in keras.models.load_model(file).layers if "dense" in x.name)
    return isinstance(layer, sys.modules["shared_dense"].SharedDense)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(
        PACKAGE, other / "copy/shared_dense", ignore=shutil.ignore_patterns("__pycache__")
    )
    folders = (str(PACKAGE.parent), str(other / "copy"))
    cases = {f.__name__: ((f.__name__, *folders), {}) for f in CASES}
    code = f"import test_loader, test_reimport; test_loader.fork_all({cases!r}, test_reimport.use)"
    done = subprocess.run(
        [*warm.python(), "-c", code],
        cwd=Path(__file__).parent,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_imported_again(reports, case):
    report = reports[case.__name__]
    assert "crash" not in report, report["crash"]
    assert report["path"] == CASES[case]
    assert report["served"]
    if report["path"] == "op":
        assert report["reason"] == "" and not report["warned"] and "load_op" not in report
        assert report["xla"] == ""
    else:
        assert ELSEWHERE in report["reason"] and "Import one copy" in report["reason"]
        assert len(report["warned"]) == 1 and ELSEWHERE in report["warned"][0]
        assert ELSEWHERE in report["load_op"]
