"""Finds, checks and opens the libraries, once, and remembers why when it cannot."""

from __future__ import annotations

import ctypes
import functools
import importlib
import json
import os
import re
import struct
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from shared_dense._version import __version__

PACKAGE = Path(__file__).resolve().parent.parent
_REBUILD = (
    "build it against the TensorFlow that runs: in a checkout of shared-dense, "
    "`pip install --force-reinstall --no-deps --no-build-isolation .`"
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
    """What CMake wrote down (cmake/build_info.json.in); empty: Python only."""
    try:
        info = json.loads((PACKAGE / "_build_info.json").read_text())
    except (OSError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}


def minor(version: str) -> str:
    """The '2.21' of '2.21.0-rc1'."""
    found = re.match(r"\d+\.\d+", version)
    return found.group() if found else version


@functools.cache
def _open_core() -> tuple[ModuleType | None, str]:
    """The module `core`, or why there is none."""
    path = PACKAGE / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    try:
        if not _whole(path):
            return None, "a file is cut short"
        return importlib.import_module("shared_dense._core"), ""
    except (ImportError, OSError) as error:
        return None, str(error)


def core() -> ModuleType | None:
    """The pybind11 module over the core, or None where it is missing or does not load."""
    return _open_core()[0]


def _whole(path: Path) -> bool:
    """Whether an ELF file is as long as its header says; opening one cut short kills the process.

    And so is the core, which all of them open.

    Section headers come last in a file: their offset, size and count are at bytes 40, 58 and 60 of
    a 64-bit header (System V ABI, ELF-64 object file format). What is no ELF file is left to the
    dynamic linker, which says so without harm.
    """
    core = build_info().get("core")
    return _is_whole(path) and (not isinstance(core, str) or _is_whole(PACKAGE / core))


def _is_whole(path: Path) -> bool:
    with path.open("rb") as file:
        header = file.read(64)
    if len(header) < 64 or not header.startswith(b"\x7fELF\x02"):
        return True
    (offset,) = struct.unpack_from("<Q", header, 40)
    size, count = struct.unpack_from("<HH", header, 58)
    return path.stat().st_size >= offset + size * count


def disabled() -> bool:
    """Whether SHARED_DENSE_DISABLE asks for the fallback."""
    return os.environ.get("SHARED_DENSE_DISABLE", "0") not in ("", "0")


@functools.cache
def load_xla() -> str:
    """Loads what XLA needs to compile both ops. Call after `load`.

    Returns:
        Why functions that XLA compiles do not take the op; "" when they do.
    """
    import tensorflow as tf

    wanted = os.environ.get("SHARED_DENSE_XLA", "") or "core"
    if wanted == "0":
        return "SHARED_DENSE_XLA=0 asks for plain TensorFlow ops there"
    if wanted not in ("core", "dot"):
        return f"SHARED_DENSE_XLA is '{wanted}'; it must be core, dot or 0"
    name = f"_xla_tf{minor(tf.__version__)}.so"
    if not (PACKAGE / name).exists():
        return f"{name} was not built, as this TensorFlow lacks headers that it needs"
    return load_kernels(name)


def load_kernels(name: str) -> str:
    """Opens a library of more kernels of the op; what went wrong, or ""."""
    import tensorflow as tf

    path = PACKAGE / name
    try:
        if not _whole(path):
            raise OSError("the file is cut short")
        tf.load_op_library(str(path))
    except (tf.errors.NotFoundError, OSError) as error:
        return f"{name} did not load ({error}); {_REBUILD}"
    return ""


def _is_open(path: Path) -> bool:
    """Whether this very file is part of the process, so that opening it again changes nothing."""
    try:
        ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD)
    except OSError:
        return False
    return True


def _no(reason: str) -> Library:
    return Library(None, reason)


@functools.cache
def load() -> Library:
    """Opens the op library on the first call; later calls return the same answer.

    `ops.library.load` is this and what TensorFlow needs to differentiate and to vectorize the ops.

    The versions are compared before the file is opened: a library built for TensorFlow 2.18 loads
    into 2.19 without a word, and crashes later.

    Raises:
        ValueError: SHARED_DENSE_ISA names an instruction set that this build or this processor
            does not have.
    """
    import tensorflow as tf

    from shared_dense.runtime import compat

    running = minor(tf.__version__)
    files = sorted(PACKAGE.glob("_ops_tf*.so"))
    path = PACKAGE / f"_ops_tf{running}.so"
    if not files:
        if build_info():
            return _no(f"the op library {path.name} is missing from {PACKAGE}; {_REBUILD}")
        return _no(f"this is the Python-only package, built without the op library; {_REBUILD}")
    built = build_info().get("tensorflow")
    if not isinstance(built, str):
        return _no(
            f"_build_info.json is missing or unreadable, so what {path.name} was built for "
            f"is unknown; {_REBUILD}"
        )
    if build_info().get("version") != __version__:
        return _no(
            f"the op library is of shared-dense {build_info().get('version')}, but the Python "
            f"package is {__version__}; {_REBUILD}"
        )
    if not isinstance(build_info().get("core"), str):
        return _no(f"the op library is of an older build, whose core is not shared; {_REBUILD}")
    built = minor(built) if path in files else files[0].stem.removeprefix("_ops_tf")
    if built != running:
        return _no(
            f"the op library was built for TensorFlow {built}, but TensorFlow {running} is "
            f"running; {_REBUILD}, or pip install 'tensorflow=={built}.*'"
        )

    if compat.is_registered("SharedDense>SharedMatMul") and not _is_open(path):
        return _no(
            "the op SharedDense>SharedMatMul is registered already, by another copy of this "
            f"library than the one in {PACKAGE}. Import one copy in a process: start it anew "
            "with only one of them on sys.path"
        )

    module, problem = _open_core()
    if module is None:
        return _no(
            f"the module _core is missing from {PACKAGE} or does not load ({problem}); {_REBUILD}"
        )
    module.isa()  # raises for a bad SHARED_DENSE_ISA

    try:
        if not _whole(path):
            raise OSError("the file is cut short")
        ops = tf.load_op_library(str(path))
        ops.shared_dense_shared_mat_mul, ops.shared_dense_shared_mat_mul_grad  # noqa: B018
        ops.shared_dense_shared_mat_mul_output  # noqa: B018
    except (tf.errors.NotFoundError, OSError, AttributeError) as error:
        return _no(f"the op library {path.name} did not load ({error}); {_REBUILD}")
    return Library(ops, "")
