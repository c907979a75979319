"""What is in a traced function."""

from __future__ import annotations


def operations_of(concrete):
    """What runs: the types of the ops that the results hang on, and those of functions called."""
    found, stack = {}, [tensor.op for tensor in concrete.graph.outputs]
    while stack:
        op = stack.pop()
        if op.name not in found:
            found[op.name] = op.type
            stack += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    library = concrete.graph.as_graph_def().library.function
    return [*found.values(), *(node.op for function in library for node in function.node_def)]
