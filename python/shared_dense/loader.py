"""Finds, checks and loads the op library, once, and remembers why when it cannot."""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

_PACKAGE = Path(__file__).resolve().parent
_REBUILD = (
    "reinstall it against the TensorFlow that runs: "
    "pip install --force-reinstall --no-deps --no-build-isolation shared-dense "
    "(from a checkout: make build)"
)


class Library(NamedTuple):
    """The op library, or the reason that there is none."""

    ops: ModuleType | None
    reason: str  # why the op is unavailable and what to do; "" when it is available

    @property
    def available(self) -> bool:
        """Whether the op can run."""
        return self.ops is not None


@functools.cache
def build_info() -> dict:
    """What CMake wrote down: version, tensorflow, compiler, isas, cuda. Empty: Python only."""
    try:
        return json.loads((_PACKAGE / "_build_info.json").read_text())
    except (OSError, ValueError):
        return {}


def minor(version: str) -> str:
    """The '2.21' of '2.21.0-rc1'."""
    found = re.match(r"\d+\.\d+", version)
    return found.group() if found else version


def core() -> ModuleType | None:
    """The pybind11 module over the core, or None in the Python-only package."""
    try:
        return importlib.import_module("shared_dense._core")
    except ImportError:
        return None


def disabled() -> bool:
    """Whether SHARED_DENSE_DISABLE asks for the fallback."""
    return os.environ.get("SHARED_DENSE_DISABLE", "0") not in ("", "0")


def _no(reason: str) -> Library:
    return Library(None, reason)


@functools.cache
def load() -> Library:
    """Loads the op library on the first call; later calls return the same answer.

    The versions are compared before the file is opened: a library built for TensorFlow 2.18 loads
    into 2.19 without a word, and crashes later.

    Raises:
        ValueError: SHARED_DENSE_ISA names an instruction set that this build or this processor
            does not have.
    """
    import tensorflow as tf

    running = minor(tf.__version__)
    files = sorted(_PACKAGE.glob("_ops_tf*.so"))
    path = _PACKAGE / f"_ops_tf{running}.so"
    if not files:
        if build_info():
            return _no(f"the op library {path.name} is missing from {_PACKAGE}; {_REBUILD}")
        return _no(f"this is the Python-only package, built without the op library; {_REBUILD}")
    built = minor(build_info().get("tensorflow", "of unknown version"))
    if path not in files:
        built = files[0].stem.removeprefix("_ops_tf")
    if built != running:
        return _no(
            f"the op library was built for TensorFlow {built}, but TensorFlow {running} is "
            f"running; {_REBUILD}, or pip install 'tensorflow=={built}.*'"
        )

    module = core()
    if module is not None:
        module.isa()  # raises for a bad SHARED_DENSE_ISA

    try:
        ops = tf.load_op_library(str(path))
    except (tf.errors.NotFoundError, OSError) as error:
        return _no(f"the op library {path.name} did not load ({error}); {_REBUILD}")
    # Registers the gradients, which need the ops to exist.
    importlib.import_module("shared_dense.gradients")
    return Library(ops, "")
