"""The op library, with what TensorFlow has to know to differentiate, vectorize and count its ops.

Importing this module registers that: whoever may be the first to open the library opens it here.
"""

from __future__ import annotations

from shared_dense.ops import flops, gradients, vectorized
from shared_dense.runtime.loader import Library, load

__all__ = ["Library", "flops", "gradients", "load", "vectorized"]
