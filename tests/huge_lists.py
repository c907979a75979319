"""Imports a node whose list is said to be as long as asked, and prints what that took.

    python huge_lists.py KIND ATTRIBUTE NUMBER ...

prints a line of JSON per three arguments. Each import has a process of its own, forked here.
"""

from __future__ import annotations

import json
import os
import resource
import sys

import tensorflow as tf

from shared_dense.runtime import loader

FLOAT, INT32 = tf.float32.as_datatype_enum, tf.int32.as_datatype_enum
# Attributes of a node that imports, but for the one that is set; its inputs are x or i.
NODES = {
    "SharedDense>SharedMatMul": (
        ["x", "x"],
        {"T": FLOAT, "N": 1, "B": 0, "activations": [b"linear"], "num_pre_activations": 0},
    ),
    "SharedDense>SharedMatMulGrad": (
        ["x", "x", "x"],
        {
            "T": FLOAT, "N": 1, "B": 0, "num_saved": 0, "activations": [b"linear"],
            "needs_input_grad": [True], "num_input_grads": 1, "num_kernel_grads": 1,
            "num_bias_grads": 0,
        },
    ),
    "AddN": (["x"], {"T": FLOAT, "N": 1}),
    "ShapeN": (["x"], {"T": FLOAT, "N": 1}),
    "DynamicStitch": (["i", "x"], {"T": FLOAT, "N": 1}),
    "Unpack": (["x"], {"T": FLOAT, "num": 2}),
}  # fmt: skip


def graph_of(kind, **changed):
    graph = tf.compat.v1.GraphDef()
    for name, dtype in (("x", FLOAT), ("i", INT32)):
        node = graph.node.add(name=name, op="Placeholder")
        node.attr["dtype"].type = dtype
        node.attr["shape"].shape.CopyFrom(tf.TensorShape([2, 2]).as_proto())
    inputs, attributes = NODES[kind]
    node = graph.node.add(name="node", op=kind, input=inputs)
    for name, value in (attributes | changed).items():
        if name == "T":
            node.attr[name].type = value
        elif isinstance(value, int):
            node.attr[name].i = value
        elif isinstance(value[0], bytes):
            node.attr[name].list.s.extend(value)
        else:
            node.attr[name].list.b.extend(value)
    return graph


def attempt(graph):
    """What the import says, and by how many bytes memory rose above what it was before."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with tf.Graph().as_default():
            tf.graph_util.import_graph_def(graph)
        said = "imported"
    except (ValueError, tf.errors.OpError) as error:
        # The message names every input that was wanted.
        said = f"{type(error).__name__}: {str(error)[:300]}"
    return said, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def main(arguments):
    loader.load()
    for kind, attribute, number in zip(*[iter(arguments)] * 3, strict=True):
        child = os.fork()
        if child == 0:
            said, rose = attempt(graph_of(kind, **{attribute: int(number)}))
            line = {"kind": kind, "attribute": attribute, "number": int(number)}
            print(json.dumps(line | {"said": said, "bytes": rose}), flush=True)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
