#!/usr/bin/env bash
# ONNX Runtime keeps a copy of a shared kernel for each product that reads it.
#
# Versions: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6, CPython 3.11, Linux x86-64.
# Guess: eight MatMul that read one initializer of 16 MB take 16 MB, or twice that if the runtime lays
#   the kernel out for its own multiplication, for it is one initializer and laid out the same way.
# Seen: the process grows by some 16 MB for each MatMul. One MatMul over the concatenated inputs,
#   split afterwards, gives the same numbers and grows by little more than the kernel laid out once.
# Output (MB by which the most memory that the process has had grows from the import of the runtime to
#   the first result, medians of five processes; now and then one of them takes much less):
#   8 products of one kernel: 157
#   1 product, split in 8: 43
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6

cat > "$folder/program.py" <<'PROGRAM'
import resource
import statistics
import subprocess
import sys

import numpy as np

SIZE, INPUTS = 2048, 8


def memory():
    """The most that this process has had, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def write(name, apart):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype("float32")
    names = range(INPUTS)
    if apart:
        nodes = [helper.make_node("MatMul", [f"x{i}", "w"], [f"y{i}"]) for i in names]
    else:
        nodes = [
            helper.make_node("Concat", [f"x{i}" for i in names], ["x"], axis=0),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
            helper.make_node("Split", ["y"], [f"y{i}" for i in names], axis=0, num_outputs=INPUTS),
        ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, [8, SIZE]) for i in names],
        [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, [8, SIZE]) for i in names],
        [numpy_helper.from_array(weights, "w")],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), name)


def run(name):
    import onnxruntime

    x = {f"x{i}": np.full((8, SIZE), i, "float32") for i in range(INPUTS)}
    before = memory()
    session = onnxruntime.InferenceSession(name, providers=["CPUExecutionProvider"])
    session.run(None, x)
    print(memory() - before)


if len(sys.argv) > 1:
    {"write": lambda: (write("apart.onnx", True), write("one.onnx", False))}.get(
        sys.argv[1], lambda: run(sys.argv[1])
    )()
    sys.exit()
# Each in a process of its own, so that none has memory left over from another.
subprocess.run([sys.executable, __file__, "write"], check=True)
def grown_by(name):
    command = [sys.executable, __file__, name]
    return float(subprocess.run(command, check=True, capture_output=True).stdout)


grown = [
    statistics.median(grown_by(name) for _ in range(5)) for name in ("apart.onnx", "one.onnx")
]
print(f"8 products of one kernel: {grown[0]:.0f}\n1 product, split in 8: {grown[1]:.0f}")
sys.exit(not (grown[0] > 100 and grown[1] < 60))
PROGRAM
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" "$folder/program.py" 2> "$folder/log" || {
    echo "ONNX Runtime behaves otherwise now" >&2
    tail -5 "$folder/log" >&2
    exit 1
}
