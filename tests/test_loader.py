"""What happens when the op library is missing, foreign, broken or switched off, and who is told.

Each case is a copy of the package, broken in one way and imported by a process of its own: a fork
of one that has TensorFlow, whose import would else be most of the running time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import traceback
import warnings
from importlib import metadata
from pathlib import Path

import pytest
import warm

PACKAGE = Path(__file__).parents[1] / "python" / "shared_dense"
RUNNING = ".".join(metadata.version("tensorflow").split(".")[:2])
OTHER = "2.20" if RUNNING != "2.20" else "2.19"
OPS, INFO = f"_ops_tf{RUNNING}.so", "_build_info.json"
REINSTALL = "pip install --force-reinstall"


def remove(*patterns):
    def change(package):
        for pattern in patterns:
            for file in package.glob(pattern):
                file.unlink()

    return change


def rename(package):
    (package / OPS).rename(package / f"_ops_tf{OTHER}.so")


def write(name, text):
    return lambda package: (package / name).write_text(text)


def built_for_another(package):
    info = json.loads((package / INFO).read_text())
    write(INFO, json.dumps(info | {"tensorflow": f"{OTHER}.0"}))(package)


def of_another_release(package):
    info = json.loads((package / INFO).read_text())
    write(INFO, json.dumps(info | {"version": "0.0.1"}))(package)


def without_core(package):
    info = json.loads((package / INFO).read_text())
    del info["core"]
    write(INFO, json.dumps(info))(package)


def odd_core(package):
    info = json.loads((package / INFO).read_text())
    write(INFO, json.dumps(info | {"core": 3}))(package)


def truncate(size, pattern=OPS):
    def change(package):
        (file,) = package.glob(pattern)
        file.write_bytes(file.read_bytes()[:size])

    return change


def intact(package):
    pass


# Name: change to the copy, environment, and what the reason has to hold ("" for the op).
CASES = {
    "intact": (intact, {}, []),
    "library removed": (remove("_ops_tf*"), {}, [OPS, "is missing", REINSTALL]),
    "library of another version": (
        rename,
        {},
        [f"built for TensorFlow {OTHER}", f"TensorFlow {RUNNING} is running", REINSTALL]
        + [f"tensorflow=={OTHER}.*"],
    ),
    "information of another version": (
        built_for_another,
        {},
        [f"built for TensorFlow {OTHER}", f"TensorFlow {RUNNING} is running", REINSTALL]
        + [f"tensorflow=={OTHER}.*"],
    ),
    "library of another release": (
        of_another_release,
        {},
        ["of shared-dense 0.0.1", REINSTALL],
    ),
    "garbage": (write(OPS, "no ELF file\n" * 1000), {}, [OPS, "did not load", REINSTALL]),
    "empty": (write(OPS, ""), {}, [OPS, "did not load", REINSTALL]),
    "only a header": (truncate(64), {}, [OPS, "did not load", REINSTALL]),
    "half a library": (truncate(100_000), {}, [OPS, "did not load", REINSTALL]),
    "no build information": (remove(INFO), {}, ["unknown", REINSTALL]),
    "broken build information": (write(INFO, "{"), {}, ["unknown", REINSTALL]),
    "odd build information": (write(INFO, "[]"), {}, ["unknown", REINSTALL]),
    "information of an older build": (without_core, {}, ["older build", REINSTALL]),
    "odd name of the core": (odd_core, {}, ["older build", REINSTALL]),
    "no shared core": (remove("_core_*"), {}, ["_core is missing", "_core_", REINSTALL]),
    "half a shared core": (truncate(100_000, "_core_*"), {}, ["does not load", REINSTALL]),
    "no core": (remove("_core*"), {}, ["_core is missing", REINSTALL]),
    "broken core": (
        lambda package: [f.write_text("no ELF file\n") for f in package.glob("_core*")],
        {},
        ["does not load", REINSTALL],
    ),
    "neither library": (remove("_ops_tf*", "_core*"), {}, [OPS, "is missing", REINSTALL]),
    "Python only": (
        remove("_ops_tf*", "_core*", INFO),
        {},
        ["Python-only package", REINSTALL],
    ),
    "disabled": (intact, {"SHARED_DENSE_DISABLE": "1"}, ["SHARED_DENSE_DISABLE", "unset it"]),
    "not disabled": (intact, {"SHARED_DENSE_DISABLE": "0"}, []),
    "ISA avx2": (intact, {"SHARED_DENSE_ISA": "avx2"}, []),
    "ISA generic": (intact, {"SHARED_DENSE_ISA": "generic"}, []),
    "ISA nonsense": (intact, {"SHARED_DENSE_ISA": "nonsense"}, []),
}


def use(folder):
    """Imports the copy in `folder`, calls it thrice and tells what was seen, as a dict."""
    import numpy as np
    import tensorflow as tf
    from oracle import Oracle

    sys.path.insert(0, folder)
    import shared_dense as sd

    assert Path(sd.__file__).parent.parent == Path(folder), sd.__file__

    def described():
        status = sd.status()
        assert str(status).count("\n") > 5
        return {
            name: getattr(status, name)
            for name in ("available", "reason", "isa", "last_path", "last_reason")
        }

    report = {"before": described(), "error": "", "warnings": []}
    rng = np.random.default_rng(0)
    xs = [rng.normal(size=(rows, 5)).astype("float32") for rows in (3, 0, 2)]
    dys = [rng.normal(size=(rows, 4)).astype("float32") for rows in (3, 0, 2)]
    kernel, bias = (rng.normal(size=shape).astype("float32") for shape in ((5, 4), 4))
    exact = Oracle(xs, kernel, [bias], ["gelu"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            for _ in range(2):
                w = tf.constant(kernel)
                with tf.GradientTape() as tape:
                    tape.watch(w)
                    outputs = sd.shared_matmul(xs, w, bias, "gelu")
                for output, wanted in zip(outputs, exact.forward(), strict=True):
                    wanted.check(output)
                gradient = tape.gradient(outputs, w, output_gradients=dys)
                exact.backward(dys)["dkernel"].check(gradient)
            layer = sd.SharedDense(4, activation="gelu", bias_initializer="ones")
            outputs = layer(list(xs))
            exact = Oracle(xs, layer.kernel.numpy(), [np.ones(4)], ["gelu"])
            for output, wanted in zip(outputs, exact.forward(), strict=True):
                wanted.check(output)
        except (ValueError, tf.errors.OpError) as error:
            report["error"] = f"{type(error).__name__}: {error}"
    ours = [w for w in caught if "shared_dense" in str(w.message)]
    report["warnings"] = [(w.category.__name__, str(w.message)) for w in ours]
    return report | {"after": described()}


def fork_all(cases, run=use):
    """Runs in a process of its own: `run` in a fork for each, the reports as JSON to stdout."""
    # Before the forks, not in each.
    import keras  # noqa: F401
    import tensorflow as tf  # noqa: F401
    from oracle import Oracle  # noqa: F401

    reports = {}
    for name, (argument, environment) in cases.items():
        from_child, to_parent = os.pipe()
        child = os.fork()
        if child == 0:
            os.environ.update(environment)
            try:
                text = json.dumps(run(argument))
            except BaseException:
                text = json.dumps({"crash": traceback.format_exc()})
            os.write(to_parent, text.encode())
            os._exit(0)
        os.close(to_parent)
        with open(from_child) as pipe:
            text = pipe.read()
        _, status = os.waitpid(child, 0)
        reports[name] = json.loads(text) if text else {"crash": f"died with status {status}"}
    print(json.dumps(reports))


def clean_environment(**more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SHARED_DENSE_")}
    return kept | {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""} | more


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    cases = {}
    for i, (name, (change, environment, _)) in enumerate(CASES.items()):
        copy = tmp_path_factory.mktemp(f"case{i}") / "shared_dense"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        change(copy)
        cases[name] = (str(copy.parent), environment)
    done = subprocess.run(
        [*warm.python(), "-c", f"import test_loader; test_loader.fork_all({cases!r})"],
        cwd=Path(__file__).parent,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def report_of(reports, name):
    assert "crash" not in reports[name], reports[name]["crash"]
    return reports[name]


@pytest.mark.parametrize(
    "name",
    [name for name, (_, _, said) in CASES.items() if said],
)
def test_fallback_says_why_once_and_is_right(reports, name):
    report = report_of(reports, name)
    said = CASES[name][2]

    assert report["error"] == ""
    assert not report["before"]["available"]
    assert report["before"]["last_path"] == ""
    assert report["after"]["last_path"] == "fallback"
    assert report["after"]["last_reason"] == report["after"]["reason"]
    [(category, message)] = report["warnings"]
    assert category == "RuntimeWarning"
    for text in said:
        assert text in message
        assert text in report["before"]["reason"]


@pytest.mark.parametrize("name", ["intact", "not disabled", "ISA avx2", "ISA generic"])
def test_op_runs_in_silence(reports, name):
    report = report_of(reports, name)

    assert report["error"] == ""
    assert report["warnings"] == []
    assert report["before"]["available"]
    assert report["before"]["reason"] == ""
    assert report["after"]["last_path"] == "op"
    if name.startswith("ISA"):
        assert report["after"]["isa"] == name.removeprefix("ISA ")


def test_an_unknown_instruction_set_is_an_error(reports):
    report = report_of(reports, "ISA nonsense")

    for text in (report["error"], report["before"]["reason"], report["after"]["reason"]):
        assert "SHARED_DENSE_ISA=nonsense" in text
        assert "choose one of: " in text
        assert "generic" in text
    assert report["error"].startswith("ValueError")
    assert not report["after"]["available"]
    assert report["after"]["last_path"] == ""
    assert report["warnings"] == []


def test_the_fix_for_missing_build_information_can_be_typed(reports):
    assert "tensorflow==of" not in report_of(reports, "no build information")["after"]["reason"]


def python(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
    )


def test_import_loads_nothing():
    program = """
import sys
import shared_dense
dir(shared_dense), shared_dense.__version__
assert not {"tensorflow", "keras", "numpy"} & set(sys.modules)
loaded = {name for name in sys.modules if name.startswith("shared_dense")}
assert loaded == {"shared_dense", "shared_dense._version"}, loaded
with open("/proc/self/maps") as maps:
    assert "_ops_tf" not in maps.read()
"""
    done = python("-c", program, SHARED_DENSE_ISA="nonsense")
    assert done.returncode == 0, done.stderr


def test_without_tensorflow_the_status_says_so():
    program = """
import sys
sys.modules["tensorflow"] = None
import shared_dense
status = shared_dense.status()
assert not status.available
assert "TensorFlow does not import" in status.reason and "pip install" in status.reason, status
assert status.tensorflow_running == "" and status.tensorflow_built != "", status
"""
    done = python("-c", program)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not (PACKAGE / "__main__.py").exists(), reason="there is no __main__ yet")
def test_python_m_prints_the_table():
    done = python("-m", "shared_dense")
    assert done.returncode == 0, done.stdout + done.stderr
    for text in ("available", "tensorflow_running", RUNNING, "isa"):
        assert text in done.stdout
