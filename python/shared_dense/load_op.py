"""Importing this module loads the op and its gradients, for graphs that already hold it.

`tf.saved_model.load` and `keras.layers.TFSMLayer` look up the ops of a graph before any code of
this library could run, so that one line has to come first:

    import shared_dense.load_op

A loaded graph that holds the op runs it even where SHARED_DENSE_DISABLE is set, which is about new
calls: there are no plain TensorFlow ops in that graph.

Raises:
    ImportError: the op cannot be had here; the message says why, and what to do.
    ValueError: SHARED_DENSE_ISA names an instruction set that is not there.
"""

from shared_dense.ops import library
from shared_dense.runtime import loader

if not library.load().available:
    raise ImportError(
        f"the op SharedDense>SharedMatMul cannot be loaded: {library.load().reason}. A SavedModel "
        "exported inside shared_dense.fallback() needs neither the op nor this import."
    )
loader.load_xla()  # a graph may be loaded into a function that XLA compiles
