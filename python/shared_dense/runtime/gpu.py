"""The GPU kernels: loaded where they are asked for, and checked before they are used."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path
from typing import NamedTuple

from shared_dense.runtime import loader


def _wanted() -> bool:
    return os.environ.get("SHARED_DENSE_GPU", "0") not in ("", "0")


def _driver_cuda() -> str:
    """The newest CUDA that the driver of this machine knows, such as '12.5'; "" without a driver.

    Asked of the driver itself (cuDriverGetVersion): opening our library would register its kernels.
    """
    try:
        version = ctypes.c_int()
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return ""
    return f"{version.value // 1000}.{version.value % 1000 // 10}" if version.value else ""


def _driver_too_old() -> str:
    """Why the driver cannot run kernels of the CUDA that built them; "" when it can.

    A runtime needs a driver of its own major version or a later one (NVIDIA, CUDA Compatibility).
    """
    driver, built = _driver_cuda(), str(loader.build_info().get("cuda_version") or "")
    majors = [int(version.partition(".")[0]) for version in (driver, built) if version]
    if len(majors) < 2 or majors[0] >= majors[1]:
        return ""
    return (
        f"they were built with CUDA {built}, and the driver of this machine knows CUDA {driver} at "
        f"most; install a newer driver (CUDA 13 needs 580 or later, CUDA 12 needs 525), or build "
        f"with the nvcc of a CUDA {majors[0]} toolkit (SHARED_DENSE_CUDA=on, that nvcc on the PATH)"
    )


class Gpu(NamedTuple):
    """How the GPU kernels stand."""

    reason: str  # why calls on a GPU do not take them; "" when they do
    check: str  # what running them here has shown


_refused = False


def refused() -> bool:
    """Whether GPU kernels registered, failed their check, and are kept from being used."""
    return _refused


@functools.cache
def load() -> Gpu:
    """Loads the GPU kernels of the op where SHARED_DENSE_GPU asks for them, and checks them.

    They have never run on a GPU, so nobody gets them unasked, and where they are asked for every
    visible GPU computes some products first (`gpu_check`). Call after `loader.load`.
    """
    never = "never run on a GPU"
    if not loader.build_info().get("cuda"):
        return Gpu("none were built", "")
    if not _wanted():
        return Gpu(
            "those built for CUDA have never been run on a GPU, so they are taken only where "
            "SHARED_DENSE_GPU=1 is set",
            never,
        )
    import tensorflow as tf

    for device in tf.config.get_visible_devices("GPU"):
        capability = tf.config.experimental.get_device_details(device).get("compute_capability")
        if capability is not None and capability < (8, 0):
            reason = f"{device.name} has compute capability {capability}, and (8, 0) is needed"
            return Gpu(reason, never)
    if reason := _driver_too_old():
        return Gpu(reason, never)
    name = f"_gpu_tf{loader.minor(tf.__version__)}.so"
    if reason := loader.load_kernels(name):
        return Gpu(reason, never)
    return _checked(loader.PACKAGE / name)


def _checked(path: Path) -> Gpu:
    """Runs the kernels of a library that is loaded, and has it refuse them where they fail."""
    import tensorflow as tf

    from shared_dense.runtime import gpu_check

    devices = [
        device.name.partition("device:")[2] for device in tf.config.list_logical_devices("GPU")
    ]
    if not devices:
        return Gpu("", "never run on a GPU: none is visible")
    verdict = gpu_check.check(loader.load().ops, devices)
    if not verdict.reason:
        return Gpu("", verdict.summary)
    reason = f"their check on this machine failed: {verdict.reason}"
    # Registered they stay, and a graph that holds the op would take them without asking us.
    ctypes.CDLL(str(path)).shared_dense_gpu_refuse(reason.encode())
    global _refused
    _refused = True
    return Gpu(reason, reason)
