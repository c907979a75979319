"""One shared weight matrix, several inputs, one fused kernel.

`SharedDense` is the Keras layer, `TransposedDense` applies its kernel transposed, `Shared` maps any
other layer over several inputs, `shared_matmul` is the function below them, `status()` says which
path runs and why, `fallback()` runs plain TensorFlow ops. Importing this package compiles and loads
nothing and never fails; TensorFlow is imported and the op library loaded on first use. `import
shared_dense.load_op` loads it at once, for SavedModels that hold the op.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any

from shared_dense._version import __version__

if TYPE_CHECKING:
    from shared_dense.keras.dense import SharedDense
    from shared_dense.keras.exporting import export
    from shared_dense.keras.shared import Shared
    from shared_dense.keras.transposed import TransposedDense
    from shared_dense.ops.matmul import shared_matmul
    from shared_dense.runtime.paths import fallback
    from shared_dense.state import status

__all__ = [
    "Shared",
    "SharedDense",
    "TransposedDense",
    "__version__",
    "export",
    "fallback",
    "shared_matmul",
    "status",
]

_HOME = {
    "Shared": "keras.shared",
    "SharedDense": "keras.dense",
    "TransposedDense": "keras.transposed",
    "export": "keras.exporting",
    "fallback": "runtime.paths",
    "shared_matmul": "ops.matmul",
    "status": "state",
}

for _name in _HOME:  # a reload keeps the module's names, and what they stood for may be older
    globals().pop(_name, None)


def __getattr__(name: str) -> Any:
    """Imports what is asked for, when it is asked for."""
    if name not in _HOME:
        raise AttributeError(f"module 'shared_dense' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"shared_dense.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


# A saved model names its layers, and Keras finds only registered ones: the layers are imported as
# soon as Keras is, so that `import shared_dense` is all that loading one takes.
with contextlib.suppress(ImportError):
    import wrapt

    wrapt.register_post_import_hook(
        lambda keras: [
            importlib.import_module(f"shared_dense.keras.{name}")
            for name in ("dense", "shared", "transposed")
        ],
        "keras",
    )
