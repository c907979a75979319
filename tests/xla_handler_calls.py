"""Calls of the handlers as a serialized graph may hold them: right ones, and hostile ones.

As a program, prints for every case that it is asked for a line of JSON: what came of it. Run by
test_xla_handlers.py in a process of its own, which a missing check could end.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from shared_dense import _core

COUNT = len(_core.activations())
LAST = f"from 0 to {COUNT - 1}"

X = [np.float32([[1, -2, 3], [0, 4, -1]]), np.float32([[[2, 1, 1]]])]
KERNEL = np.float32([[1, -1, 2, 0], [3, 0, -2, 1], [-1, 2, 1, -3]])
BIASES = [np.float32([1, 2, 3, 4]), np.float32([-4, 0, 2, 1])]
DY = [np.float32([[1, 2, -1, 3], [2, -2, 1, 1]]), np.float32([[[3, 1, 2, -2]]])]
EMPTY = np.zeros([0, 3], np.float32)


def relu(z):
    return np.maximum(z, 0)


Z = [X[0] @ KERNEL + BIASES[1], X[1] @ KERNEL + BIASES[0]]
DZ = [DY[0] * (Z[0] > 0), DY[1]]
DKERNEL = X[0].T @ DZ[0] + X[1][0].T @ DZ[1][0]

FORWARD = {
    "target": "shared_dense.forward",
    "operands": [*X, KERNEL, *BIASES],
    "results": [relu(Z[0]), Z[1], *Z],
    "activations": [1, 0],
    "bias_of": [1, 0],
    "transpose_kernel": False,
    "pre_activations": True,
}
BACKWARD = {
    "target": "shared_dense.backward",
    "operands": [*DY, *X, KERNEL, relu(Z[0]), Z[1]],
    "results": [DZ[0] @ KERNEL.T, DKERNEL, DZ[1][0].sum(0), DZ[0].sum(0)],
    "activations": [1, 0],
    "bias_of": [1, 0],
    "trains_kernel": [1, 1],
    "needs_input": [1, 0],
    "transpose_kernel": False,
    "needs_kernel": True,
    "needs_biases": True,
}


def replaced(values, **changes):
    """The list with some entries replaced: `_3=value` for that of index 3."""
    return [changes.get(f"_{i}", value) for i, value in enumerate(values)]


def forward(**changes):
    return FORWARD | changes


def backward(**changes):
    return BACKWARD | changes


def without(case, *, results):
    """The call with as many results only."""
    return case | {"results": case["results"][:results]}


def operands(case, **changes):
    return case | {"operands": replaced(case["operands"], **changes)}


def results(case, **changes):
    return case | {"results": replaced(case["results"], **changes)}


def cast(case, dtype):
    return case | {
        key: [value.astype(dtype) for value in case[key]] for key in ("operands", "results")
    }


LINEAR = backward(
    operands=[*DY, *X, KERNEL],
    results=[DY[1] @ KERNEL.T],
    activations=[0, 0],
    needs_input=[0, 1],
    needs_kernel=False,
    needs_biases=False,
)
WIDE = np.zeros([2, 7], np.float32)

RIGHT = {
    "forward": FORWARD,
    "forward, double": cast(FORWARD, "float64"),
    "forward, half": cast(FORWARD, "float16"),
    "forward, nothing kept": without(forward(pre_activations=False), results=2),
    "forward, transposed": operands(forward(transpose_kernel=True), _2=KERNEL.T.copy()),
    "forward, no rows": results(
        operands(FORWARD, _0=EMPTY), _0=np.zeros([0, 4]), _2=np.zeros([0, 4])
    ),
    "forward, no columns": forward(
        operands=[*X, KERNEL[:, :0], BIASES[0][:0]], bias_of=[0, 0], pre_activations=False,
        results=[np.zeros([2, 0]), np.zeros([1, 1, 0])],
    ),
    "forward, one bias as the op means it": forward(
        operands=[*X, KERNEL, BIASES[0]], results=[relu(X[0] @ KERNEL + BIASES[0]), Z[1]],
        bias_of=[], pre_activations=False,
    ),
    "backward": BACKWARD,
    "backward, double": cast(BACKWARD, "float64"),
    "backward, linear": LINEAR,
    "backward, one does not train": results(
        backward(trains_kernel=[0, 1]), _1=X[1][0].T @ DZ[1][0]
    ),
    "backward, transposed": results(
        operands(backward(transpose_kernel=True), _4=KERNEL.T.copy()), _1=DKERNEL.T.copy()
    ),
    "backward, a bias of nobody": backward(
        bias_of=[2, 0], results=[*BACKWARD["results"][:3], np.zeros([4]), BACKWARD["results"][3]]
    ),
}  # fmt: skip

# What the message of each has to hold.
HOSTILE = {
    # Attributes of either.
    "no input": (forward(activations=[], bias_of=[]), ["activations", "per input", "none"]),
    "no input, backward": (
        backward(activations=[], bias_of=[], trains_kernel=[], needs_input=[]),
        ["activations", "per input", "none"],
    ),
    "activation 77": (forward(activations=[1, 77]), ["activations[1]", LAST, "got 77"]),
    "one activation more": (backward(activations=[COUNT, 0]), ["activations[0]", f"got {COUNT}"]),
    "activation -1": (forward(activations=[-1, 0]), ["activations[0]", LAST, "got -1"]),
    "activation of 32 bits": (
        backward(activations=[0, 2**31 - 1]),
        ["activations[1]", LAST, "got 2147483647"],
    ),
    "short bias_of": (forward(bias_of=[0]), ["bias_of", "one per input (2)", "got 1"]),
    "short bias_of, backward": (backward(bias_of=[0]), ["bias_of", "per input (2)", "got 1"]),
    "short bias_of that nobody reads": (LINEAR | {"bias_of": [0]}, ["bias_of", "(2)", "got 1"]),
    "long bias_of": (forward(bias_of=[0, 1, 0]), ["bias_of", "one per input (2)", "got 3"]),
    "bias 2": (forward(bias_of=[0, 2]), ["bias_of[1]", "one of the 2 biases", "got 2"]),
    "bias of 32 bits": (
        forward(bias_of=[2**31 - 1, 0]),
        ["bias_of[0]", "one of the 2 biases", "got 2147483647"],
    ),
    "bias -2": (forward(bias_of=[-2, 0]), ["bias_of[0]", "-1 for none", "got -2"]),
    "bias 2, backward": (backward(bias_of=[0, 2]), ["bias_of[1]", "2 biases", "got 2"]),
    "bias -2, backward": (backward(bias_of=[0, -9]), ["bias_of[1]", "2 biases", "got -9"]),
    "bias -2 that nobody reads": (LINEAR | {"bias_of": [0, -2]}, ["bias_of[1]", "got -2"]),
    "short trains_kernel": (
        backward(trains_kernel=[1]),
        ["trains_kernel", "one per input (2)", "got 1"],
    ),
    "trains_kernel 2": (backward(trains_kernel=[1, 2]), ["trains_kernel[1]", "0 or 1", "got 2"]),
    "short needs_input": (backward(needs_input=[1]), ["needs_input", "(2)", "got 1 flags"]),
    "long needs_input": (backward(needs_input=[1, 0, 0]), ["needs_input", "(2)", "got 3 flags"]),
    "needs_input -1": (backward(needs_input=[-1, 0]), ["needs_input[0]", "0 or 1", "got -1"]),
    "more inputs than arguments": (
        forward(activations=[0] * 40, bias_of=[-1] * 40),
        ["inputs must be 40 of the arguments", "got 5"],
    ),
    "more inputs than arguments, backward": (
        backward(activations=[0] * 5, bias_of=[-1] * 5, trains_kernel=[], needs_input=[1] * 5),
        ["inputs must be 5 of the arguments", "got 2", "has 7"],
    ),
    # Numbers of buffers.
    "no arguments": (forward(operands=[]), ["no arguments"]),
    "no arguments, backward": (backward(operands=[]), ["no arguments"]),
    "no kernel": (
        forward(operands=X, bias_of=[-1, -1]),
        ["kernel must be 1 of the arguments", "got 0"],
    ),
    "no kernel, backward": (backward(operands=[*DY, *X]), ["kernel", "got 0", "the call has 4"]),
    "more biases than inputs": (
        forward(operands=[*X, KERNEL, *BIASES, BIASES[0]], bias_of=[]),
        ["biases must be none, one, or one per input (2), got 3"],
    ),
    "none saved": (
        backward(operands=BACKWARD["operands"][:5]),
        ["saved must hold one tensor per input (2)", "got 0"],
    ),
    "one saved": (backward(operands=BACKWARD["operands"][:6]), ["saved", "(2)", "got 1"]),
    "three saved": (backward(operands=[*BACKWARD["operands"], Z[0]]), ["saved", "(2)", "got 3"]),
    "saved for nobody": (
        LINEAR | {"operands": BACKWARD["operands"]},
        ["saved must be empty", "linear", "got 2"],
    ),
    "few results": (without(FORWARD, results=1), ["outputs must be 2 of the results", "got 1"]),
    "nothing kept": (
        without(FORWARD, results=3),
        ["pre_activations must be 2 of the results", "got 1", "has 3"],
    ),
    "more results": (forward(pre_activations=False), ["4 results, wanted", "and 2"]),
    "no dX": (LINEAR | {"results": [Z[0]]}, ["input_grads[0]", "[2,4]"]),
    "dX of all, one result": (
        LINEAR | {"needs_input": [1, 1]},
        ["input_grads must be 2 of the results", "got 1"],
    ),
    "no dW": (
        without(backward(needs_biases=False), results=1),
        ["kernel_grads must be 1 of the results", "got 0"],
    ),
    "db that nobody asks for": (
        backward(needs_biases=False),
        ["7 arguments and 4 results, wanted 7 and 2"],
    ),
    # Types.
    "integers": (cast(FORWARD, "int32"), ["first argument has dtype S32", "F32, F64, BF16"]),
    "integers, backward": (cast(BACKWARD, "int32"), ["first argument has dtype S32"]),
    "a double input": (
        operands(FORWARD, _1=X[1].astype("float64")),
        ["inputs[1] has dtype F64", "F32"],
    ),
    "a half kernel": (operands(FORWARD, _2=KERNEL.astype("float16")), ["kernel[0]", "F16", "F32"]),
    "a half bias": (operands(FORWARD, _4=BIASES[1].astype("float16")), ["biases[1]", "F16"]),
    "a half output": (results(FORWARD, _1=Z[1].astype("float16")), ["outputs[1]", "F16", "F32"]),
    "a half z": (results(FORWARD, _3=Z[1].astype("float16")), ["pre_activations[1]", "F16"]),
    "a half dY": (operands(BACKWARD, _1=DY[1].astype("float16")), ["output_grads[1]", "F16"]),
    "half saved": (operands(BACKWARD, _6=Z[1].astype("float16")), ["saved[1]", "F16"]),
    "a half dX": (results(BACKWARD, _0=X[0].astype("float16")), ["input_grads[0]", "F16"]),
    "a half dW": (results(BACKWARD, _1=KERNEL.astype("float16")), ["kernel_grads[0]", "F16"]),
    "a half db": (results(BACKWARD, _3=BIASES[1].astype("float16")), ["bias_grads[1]", "F16"]),
    # Shapes.
    "a scalar input": (operands(FORWARD, _1=np.float32(3)), ["inputs[1]", "rank >= 1", "scalar"]),
    "a wide input": (operands(FORWARD, _0=WIDE), ["inputs[0]", "[2,7]", "last axis is 3"]),
    "a wide input, backward": (operands(BACKWARD, _2=WIDE), ["inputs[0]", "[2,7]", "axis is 3"]),
    "a kernel of rank 1": (operands(FORWARD, _2=BIASES[0]), ["kernel must have rank 2", "[4]"]),
    "a kernel of rank 3": (
        operands(BACKWARD, _4=KERNEL[None]),
        ["kernel must have rank 2", "[1,3,4]"],
    ),
    "a scalar kernel": (operands(BACKWARD, _4=np.float32(1)), ["kernel must have rank 2", "[]"]),
    "a kernel of the other layout": (
        forward(transpose_kernel=True),
        ["inputs[0]", "[3,4] (transposed)", "last axis is 4"],
    ),
    "a narrow bias": (operands(FORWARD, _3=BIASES[0][:1]), ["biases[0]", "[1]", "shape [4]"]),
    "a bias of rank 2": (operands(FORWARD, _4=BIASES[0][None]), ["biases[1]", "[1,4]"]),
    "few rows of dY": (operands(BACKWARD, _0=DY[0][:1]), ["output_grads[0]", "[1,4]", "[2,4]"]),
    "dY of another rank": (operands(BACKWARD, _1=DY[1][0]), ["output_grads[1]", "[1,1,4]"]),
    "few rows saved": (operands(BACKWARD, _5=Z[0][:1]), ["saved[0]", "[1,4]", "[2,4]"]),
    "a small output": (results(FORWARD, _0=Z[0][:1]), ["outputs[0]", "[1,4]", "wanted [2,4]"]),
    "an empty output": (results(FORWARD, _1=Z[1][:0]), ["outputs[1]", "[0,1,4]", "[1,1,4]"]),
    "a small z": (results(FORWARD, _2=Z[0][:1]), ["pre_activations[0]", "[1,4]", "[2,4]"]),
    "a small dX": (results(BACKWARD, _0=X[0][:1]), ["input_grads[0]", "[1,3]", "wanted [2,3]"]),
    "a small dW": (results(BACKWARD, _1=KERNEL[:1]), ["kernel_grads[0]", "[1,4]", "[3,4]"]),
    "a small db": (results(BACKWARD, _2=BIASES[0][:1]), ["bias_grads[0]", "[1]", "wanted [4]"]),
}  # fmt: skip


MLIR = {"float32": "f32", "float64": "f64", "float16": "f16", "int32": "i32"}


def attribute(value):
    if isinstance(value, list):
        return f"array<i32: {', '.join(map(str, value))}>" if value else "array<i32>"
    return str(value).lower()


def run(case):
    """Calls a handler from a graph that was serialized with the call in it."""
    import tensorflow as tf

    case = dict(case)
    target, arguments, wanted = (case.pop(key) for key in ("target", "operands", "results"))
    # Types of the results are the kernel's, unless said: most are made of doubles.
    wanted = [r.astype("float32") if r.dtype == np.float64 else r for r in wanted]
    if arguments and arguments[0].dtype == np.float64:
        wanted = [r.astype("float64") for r in wanted]

    def types(arrays):
        return ", ".join(
            f"tensor<{''.join(f'{size}x' for size in a.shape)}{MLIR[a.dtype.name]}>" for a in arrays
        )

    names = [f"%a{i}" for i in range(len(arguments))]
    parameters = [f"{n}: {types([a])}" for n, a in zip(names, arguments, strict=True)]
    attributes = ", ".join(f"{key} = {attribute(value)}" for key, value in case.items())
    head = f"@main({', '.join(parameters)}) -> ({types(wanted)})"
    module = f"""module @m {{ func.func public {head} {{
      %r:{len(wanted)} = "stablehlo.custom_call"({", ".join(names)}) {{
        call_target_name = "{target}", api_version = 4 : i32, backend_config = {{{attributes}}}
      }} : ({types(arguments)}) -> ({types(wanted)})
      return {", ".join(f"%r#{i}" for i in range(len(wanted)))} : {types(wanted)} }} }}"""
    graph = tf.compat.v1.GraphDef()
    inputs = [f"x{i}" for i in range(len(arguments))]
    node = graph.node.add(name="call", op="XlaCallModule", input=inputs)
    node.attr["version"].i = 9
    node.attr["module"].s = module.encode()
    node.attr["platforms"].list.s.append(b"CPU")
    for name, arrays in (("Tin", arguments), ("Tout", wanted)):
        node.attr[name].list.SetInParent()
        node.attr[name].list.type.extend([tf.as_dtype(a.dtype).as_datatype_enum for a in arrays])
    for result in wanted:
        node.attr["Sout"].list.shape.add().CopyFrom(tf.TensorShape(result.shape).as_proto())

    def imported(*tensors):
        found = [f"call:{i}" for i in range(len(wanted))]
        feeds = dict(zip(inputs, tensors, strict=True))
        return tf.graph_util.import_graph_def(graph, feeds, found)

    compiled = tf.function(imported, jit_compile=True, autograph=False)
    try:
        return {"values": [np.asarray(v).tolist() for v in compiled(*map(tf.constant, arguments))]}
    except tf.errors.OpError as error:
        return {"error": type(error).__name__, "message": error.message}


def main():
    import tensorflow as tf

    import shared_dense as sd

    # Compiling a call of the op opens the library that has the handlers.
    one = tf.ones([1, 1])
    tf.function(lambda: sd.shared_matmul([one], one), jit_compile=True)()
    cases = RIGHT | {name: case for name, (case, _) in HOSTILE.items()}
    for name in json.loads(sys.stdin.read()):
        print(json.dumps({"name": name} | run(cases[name])), flush=True)


if __name__ == "__main__":
    main()
