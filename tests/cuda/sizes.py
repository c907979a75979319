"""The sizes of the CPU's own tests (tests/test_core.py), a line each, for `check --sizes`.

Read as text: a machine with a GPU needs neither NumPy nor the library for it. An argument: at most
so many multiply-adds a product.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

LISTS = ("SIZES", "EMPTY", "PARALLEL", "STREAM", "MANY_ROWS")


def sizes() -> list[tuple[tuple[int, ...], int, int]]:
    """Rows of each input, in_features, units."""
    tree = ast.parse((Path(__file__).parents[1] / "test_core.py").read_text())
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id in LISTS:
            # The lists are plain numbers, but for `(1,) * 29`.
            found[node.targets[0].id] = eval(compile(ast.Expression(node.value), "", "eval"), {})
    return [size for name in LISTS for size in found[name]]


if __name__ == "__main__":
    most = int(sys.argv[1]) if len(sys.argv) > 1 else sys.maxsize
    for rows, in_features, units in sizes():
        if sum(rows) * in_features * units <= most:
            print(in_features, units, *rows)
