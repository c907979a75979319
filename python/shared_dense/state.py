"""What is installed, what runs, and why."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import Any

from shared_dense._version import __version__
from shared_dense.runtime import gpu, loader
from shared_dense.runtime.public import public

# The dtypes that have CPU kernels, and so a plan.
PLANNED = ("float32", "float64", "bfloat16", "float16")
BENCHED = {"float16": "half"}  # by what name the benchmark knows them, where by another


@dataclasses.dataclass(frozen=True)
class Status:
    """The state of the library in this process; `print` it.

    Attributes:
        available: whether calls can take the op.
        reason: why not, and what to do; "" when available.
        version: of the Python package.
        op_version: of the package the op library was built from; "" when there is none.
        tensorflow_built: the TensorFlow it was built against; "" when there is none.
        tensorflow_running: the TensorFlow of this process; "" when it does not import.
        isa: the instruction set that the CPU kernels use; "" when there are none.
        isas: those built in, best first.
        cuda: whether CUDA kernels were built. None had been run on a GPU when they were written.
        cuda_version: of the CUDA that built them; "" where there are none.
        gpu: why calls on a GPU do not take them; "" when they do.
        xla: why functions that XLA compiles (`jit_compile=True`) do not take the op; "" when they
            do. On the CPU the compiled code then calls the same kernels; on a GPU, or with
            SHARED_DENSE_XLA=dot, XLA makes the products of the stacked rows.
        gpu_check: what running them on this machine's GPUs has shown, which happens when they are
            loaded; "" where there are none.
        compiler: that built the op library.
        dtypes: that the op computes, per device.
        last_path: what the latest eager call or trace took: 'op', 'fallback', or 'keras' where a
            layer leaves the computation to Keras's own code; "" before the first. A compiled `fit`,
            `predict` or `tf.function` keeps the path of its trace, and running it changes nothing
            here.
        last_reason: why.
        layers: the same for every layer of ours that there is, by its name (the second of a name
            is "name (2)"): the path of its latest eager call or trace, and why.
    """

    available: bool
    reason: str
    version: str
    op_version: str
    tensorflow_built: str
    tensorflow_running: str
    isa: str
    isas: tuple[str, ...]
    cuda: bool
    cuda_version: str
    gpu: str
    xla: str
    gpu_check: str
    compiler: str
    dtypes: dict[str, tuple[str, ...]]
    last_path: str
    last_reason: str
    layers: dict[str, str]

    def __str__(self) -> str:
        rows = [(field.name, getattr(self, field.name)) for field in dataclasses.fields(self)]
        width = max(len(name) for name, _ in rows)
        layers = [f"{name}: {path}" for name, path in self.layers.items()]
        rows[-1] = ("layers", f"\n{'':<{width}}  ".join(layers))
        # Of these two, nothing is said of what works.
        works = {"gpu": "calls on a GPU take them", "xla": "compiled functions take the op"}
        return "\n".join(
            f"{name:<{width}}  {_text(value or works.get(name, value))}" for name, value in rows
        )

    def plan(
        self,
        rows: Sequence[int],
        in_features: int,
        units: int,
        dtype: Any = "float32",
        transpose_kernel: bool = False,
        threads: int | None = None,
    ) -> str:
        """How the CPU op would compute a call: a line for each product, and what to expect.

        SHARED_DENSE_VERBOSE=1 prints the same for every new shape as it is computed.

        Args:
            rows: of each input, the product of its leading axes: `[8, 15]` for inputs of shapes
                `[8, in_features]` and `[3, 5, in_features]`.
            in_features: width of the inputs.
            units: width of the outputs.
            dtype: 'float32', 'float64', 'bfloat16' or 'float16', or TensorFlow's or NumPy's.
            transpose_kernel: whether the kernel is stored `[units, in_features]`.
            threads: TensorFlow's intra-op threads; None: as many as it would take.

        Raises:
            ValueError: a size is no non-negative integer, there is no input, the dtype has no
                kernels, or the extension is not built.
        """
        module = loader.core()
        if module is None:
            raise ValueError(f"there is no plan without the extension: {self.reason}")
        if not isinstance(rows, Sequence):
            raise ValueError(
                f"rows is {rows!r}; pass a list, the number of rows of each input, such as [8, 15]"
            )
        dtype = getattr(dtype, "name", None) or getattr(dtype, "__name__", dtype)
        if dtype not in PLANNED:
            raise ValueError(
                f"dtype {dtype!r} has no kernels; those that have: {', '.join(PLANNED)}"
            )
        sizes = {f"rows[{i}]": size for i, size in enumerate(rows)}
        for name, size in {**sizes, "in_features": in_features, "units": units}.items():
            if not isinstance(size, int) or size < 0:
                hint = "; of an input, the product of its leading axes" if name in sizes else ""
                raise ValueError(f"{name} must be an integer >= 0, got {size!r}{hint}")
        if not sizes:
            raise ValueError("rows is empty; pass the number of rows of each input, such as [8, 8]")
        asked = [] if dtype == "float32" else [f"--dtype {BENCHED.get(dtype, dtype)}"]
        if threads is None:
            threads = _intra_op_threads()
        else:
            asked.append(f"--threads {threads}")
        if not isinstance(threads, int) or threads < 1:
            raise ValueError(f"threads must be an integer >= 1, got {threads!r}")
        text = module.explain(list(rows), in_features, units, transpose_kernel, dtype, threads)
        expected = _expectation(list(rows), in_features, units, dtype)
        if min(*rows, in_features, units) > 0:  # else it takes no time that one could measure
            each = rows[0] if len({*rows}) == 1 else f"[{','.join(map(str, rows))}]"
            asked.append(f"--shapes none --also '{len(rows)}x{each} {in_features}->{units}'")
            expected += f"; measure with python -m bench {' '.join(asked)}"
        return f"{text.rstrip()}\n{expected}\n"


def _expectation(rows: list[int], in_features: int, units: int, dtype: str) -> str:
    """What the benchmark lets one expect of these sizes, beside a Dense per input.

    A rule of thumb that holds for the shapes of `python -m bench`: what is saved is N - 1 readings
    of the kernel and N - 1 ops forward; arithmetic outweighs both from some rows of each on, and
    of bfloat16 is done in float32, where oneDNN may have instructions of its own.
    """
    n, most = len(rows), max(rows)
    if dtype not in ("float32", "bfloat16"):
        expected = f"unknown: the benchmark that is kept has no {dtype}"
    elif dtype == "bfloat16":
        if n > 1 and most <= 16:
            expected = "somewhat faster: ops and readings of the kernel are saved"
        else:
            expected = (
                "slower, down to half the speed and less, where the processor multiplies "
                "bfloat16: arithmetic is the work, and the op does it in float32"
            )
    elif n == 1:
        expected = "about the same: one input is what a Dense computes"
    elif most <= 16 and n >= 4:
        expected = "faster: reading the kernel is the work"
    elif most <= 16 or (most <= 32 and n >= 4) or units <= 16:
        expected = "somewhat faster: ops and readings of the kernel are saved"
    else:
        expected = "about the same, it may lose: arithmetic is the work, and none is saved"
    return f"against a Dense per input: {expected}"


def _intra_op_threads() -> int:
    set_by_user = 0
    if "tensorflow" in sys.modules:
        set_by_user = sys.modules["tensorflow"].config.threading.get_intra_op_parallelism_threads()
    if set_by_user:
        return set_by_user
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_text(item)}" for key, item in value.items()) or "-"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return str(value) or "-"


@public
def status() -> Status:
    """The state of the library: what is available, why, and which path the latest call took.

    Loads the op library if nothing has yet. Never raises: a bad SHARED_DENSE_ISA or a TensorFlow
    that does not import is told in `reason`.
    """
    info = loader.build_info()
    available, reason, running, isa, last = False, "", "", "", None
    layers: dict[str, str] = {}
    dtypes: dict[str, tuple[str, ...]] = {}
    kernels = gpu.Gpu("the op is not available", "")
    xla = "the op is not available"
    try:
        import tensorflow as tf

        from shared_dense.ops import library
        from shared_dense.runtime import paths

        running = tf.__version__
        last = paths.last()
        layers = {name: f"{path.name} ({path.reason})" for name, path in paths.of_layers().items()}
        opened = library.load()
        available, reason = opened.available, opened.reason
        if available:
            dtypes = dict(paths.OP_DTYPES)
            kernels, xla = gpu.load(), loader.load_xla()
            if kernels.reason:
                dtypes["GPU"] = ()
        if loader.disabled():
            available, reason = False, "SHARED_DENSE_DISABLE is set; unset it to use the op"
    except ImportError as error:
        reason = f"TensorFlow does not import ({error}); pip install 'tensorflow==2.21.*'"
    except ValueError as error:
        reason = str(error)
    module = loader.core()
    if module is not None:
        try:
            isa = module.isa()
        except ValueError as error:
            reason = reason or str(error)
    return Status(
        available=available,
        reason=reason,
        version=__version__,
        op_version=info.get("version") or "",
        tensorflow_built=info.get("tensorflow") or "",
        tensorflow_running=running,
        isa=isa,
        isas=tuple(info.get("isas") or ()),
        cuda=bool(info.get("cuda", False)),
        cuda_version=info.get("cuda_version") or "",
        gpu=kernels.reason,
        gpu_check=kernels.check,
        xla=xla,
        compiler=info.get("compiler") or "",
        dtypes=dtypes,
        last_path=last.name if last else "",
        last_reason=last.reason if last else "",
        layers=layers,
    )
