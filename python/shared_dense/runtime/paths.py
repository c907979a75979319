"""Which path a call takes, and why: decided here and nowhere else."""

from __future__ import annotations

import collections
import contextlib
import functools
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from shared_dense.runtime import compat, frames, gpu, loader
from shared_dense.runtime.public import public

_DTYPES = ("float32", "float64", "bfloat16", "float16")
# Kernels there are, by device; those on a GPU only where `gpu.load` has loaded them.
OP_DTYPES = {"CPU": _DTYPES, "GPU": _DTYPES}


class Path(NamedTuple):
    """A path taken: 'op', 'fallback', or 'keras' (Keras's own code), and the reason for it."""

    name: str
    reason: str


class ExportPath(Path):
    """A fallback, in the form for other runtimes."""


_forced = 0  # how many fallback() blocks are open
_exports = 0  # how many exporting() blocks
_lock = threading.RLock()  # a collection of garbage inside may end a fallback() block
_last: Path | None = None
_here = threading.local()  # .last: that of the latest call of the thread
# By layer, what its latest call took: a layer keeps its own while others run.
_of_layers: weakref.WeakKeyDictionary[Any, Path] = weakref.WeakKeyDictionary()
_warned: set[str] = set()


@public
@contextlib.contextmanager
def fallback() -> Iterator[None]:
    """Runs or traces with plain TensorFlow ops what is called inside, in every thread.

    In every thread, because `tf.distribute` calls its replicas from threads of its own. A
    `tf.function` keeps the path it was traced with; one traced inside is portable: it runs, and its
    SavedModel loads, where this library is not installed.
    """
    global _forced
    with _lock:
        _forced += 1
    try:
        yield
    finally:
        with _lock:
            _forced -= 1


@contextlib.contextmanager
def exporting() -> Iterator[None]:
    """Traces what is called inside for other runtimes, in every thread."""
    global _exports
    with _lock:
        _exports += 1
    try:
        yield
    finally:
        with _lock:
            _exports -= 1


@functools.cache
def _gpu_visible() -> bool:
    return bool(tf.config.get_visible_devices("GPU"))


def _device(inputs: Sequence[tf.Tensor], kernel: Any) -> str:
    """Where TensorFlow would run an op on these: eager tensors know, a graph mostly does not."""
    if not _gpu_visible():
        return "CPU"
    names = [tensor.device or "" for tensor in (*inputs, kernel)]
    if all("CPU" in name.upper() for name in names):
        return "CPU"
    return "GPU"


def decide(
    dtype: str, inputs: Sequence[tf.Tensor], kernel: Any, load: Callable[[], loader.Library]
) -> tuple[Path, bool]:
    """The path for a call on these, and whether it is a fallback that its user should know of.

    `load` gives the op library, if it comes to that.
    """
    if _exports:
        return ExportPath("fallback", "inside shared_dense.export()"), False
    eager = tf.executing_eagerly()
    runtime = "" if eager else frames.above(compat.EXPORTERS)
    if runtime:
        reason = f"exported to {runtime}, which knows no op of ours"
        return ExportPath("fallback", reason), False
    if _forced:
        return Path("fallback", "inside shared_dense.fallback()"), False
    if loader.disabled():
        reason = "SHARED_DENSE_DISABLE is set; unset it to use the op"
        return Path("fallback", reason), True
    library = load()
    if not library.available:
        return Path("fallback", library.reason), True
    device = _device(inputs, kernel)
    if device == "GPU" and gpu.load().reason:
        return Path("fallback", f"the op has no kernel on GPU: {gpu.load().reason}"), True
    if dtype not in OP_DTYPES[device]:
        reason = (
            f"the op has no {dtype} kernel on {device} ({', '.join(OP_DTYPES[device])} only); use "
            "one of those where speed matters"
        )
        return Path("fallback", reason), True
    where = f"{dtype} on {device}"
    if eager:
        return Path("op", where), False
    # A graph may be compiled later, too: as part of another function, or from a SavedModel.
    missing = loader.load_xla()
    if compat.xla_compiles():
        if missing:
            return Path("fallback", f"XLA compiles this function, and {missing}"), True
        where += ", compiled by XLA"
    return Path("op", where), False


def placed() -> contextlib.AbstractContextManager:
    """The device scope of the op and its gradient: the CPU where GPU kernels failed their check.

    They stay registered, and TensorFlow prefers a GPU's kernel wherever the tensors are.
    """
    return tf.device("CPU:0") if gpu.refused() else contextlib.nullcontext()


def remember(path: Path) -> None:
    """Remembers for status() that a call took this path."""
    global _last
    _last = _here.last = path


def choose(
    dtype: str, inputs: Sequence[tf.Tensor], kernel: tf.Tensor, load: Callable[[], loader.Library]
) -> Path:
    """The path for a call on these tensors; remembered for status(), warned of once a reason."""
    path, news = decide(dtype, inputs, kernel, load)
    remember(path)
    if news and path.reason not in _warned:
        _warned.add(path.reason)
        warnings.warn(
            f"shared_dense runs plain TensorFlow ops: {path.reason}. Results agree; "
            "python -m shared_dense shows the state.",
            RuntimeWarning,
            stacklevel=frames.callers_level(),
        )
    return path


def took_keras(reason: str) -> None:
    """Remembers for status() that a layer left the computation to Keras, and why."""
    remember(Path("keras", reason))


def add_reason(reason: str) -> None:
    """Adds to what status() says of this thread's latest call: work that came with it."""
    if (path := last_here()) is not None:
        remember(path._replace(reason=f"{path.reason}; {reason}"))


def remember_for(layer: Any) -> None:
    """Remembers this thread's latest path as that of a layer, which has just been called."""
    with _lock:
        _of_layers[layer] = _here.last


def last_here() -> Path | None:
    """The path of the latest call in this thread, or None before the first."""
    return getattr(_here, "last", None)


def of_layers() -> dict[str, Path]:
    """By name of the layers that there are, the path of the latest call or trace of each.

    Layers of one name, such as those of a model and of its copy, are told apart by a number.
    """
    found: dict[str, Path] = {}
    counts: collections.Counter[str] = collections.Counter()
    with _lock:
        every = list(_of_layers.items())
    for layer, path in every:
        counts[layer.name] += 1
        again = f" ({counts[layer.name]})" if counts[layer.name] > 1 else ""
        found[layer.name + again] = path
    return found


def last() -> Path | None:
    """The path of the latest call, or None before the first."""
    return _last
