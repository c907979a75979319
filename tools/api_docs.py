"""Writes docs/api.md from the docstrings: `make docs`. A test compares the two."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "api.md"
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):\n((?:(?: {4}.*)?\n)+)", re.MULTILINE)
ENTRY = re.compile(r"^([\w*`., ]+): ")
WIDEST = 88  # a longer signature takes a line for each parameter


def signature(name: str, function: Any) -> str:
    """A call as one would write it, with the annotations that the source has."""
    parts, starred = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        starred |= stars == "*" or parameter.kind is parameter.KEYWORD_ONLY
        text = stars + parameter.name
        if parameter.annotation is not parameter.empty:
            text += f": {parameter.annotation}"
        if parameter.default is not parameter.empty:
            text += f" = {parameter.default!r}"
        parts.append(text)
    line = f"{name}({', '.join(parts)})"
    if len(line) > WIDEST:
        line = "\n".join([f"{name}(", *(f"    {part}," for part in parts), ")"])
    if inspect.isgeneratorfunction(getattr(function, "__wrapped__", None)):
        return f"with {line}:"
    # What a class's signature returns is the class.
    returns = None if inspect.isclass(function) else inspect.signature(function).return_annotation
    return line if returns in (None, inspect.Signature.empty) else f"{line} -> {returns}"


def _names(entry: re.Match) -> str:
    return ", ".join(f"`{name.strip()}`" for name in entry[1].split(",")) + ": "


def section(match: re.Match) -> str:
    """A docstring's section as a list, an item for each name that it explains."""
    title, body = match.groups()
    if title == "Returns":
        return f"**Returns** {inspect.cleandoc(body)}\n\n"
    items: list[str] = []
    for line in inspect.cleandoc(body).splitlines():
        if not line.startswith(" ") and (not items or ENTRY.match(line)):
            items.append("- " + ENTRY.sub(_names, line))
        else:
            items[-1] += "\n" + f"  {line.strip()}".rstrip()
    return f"**{title}**\n\n" + "\n".join(items) + "\n\n"


def text(thing: Any) -> str:
    """A docstring as Markdown; examples stay as they are, indented."""
    return SECTION.sub(section, inspect.getdoc(thing) + "\n").strip()


def called(name: str, function: Any, level: int = 2) -> str:
    """A function, or a class by its arguments."""
    title = f"{'#' * level} {name}"
    return f"{title}\n```py\n{signature(name, function)}\n```\n{text(function)}"


def members(cls: type, prefix: str) -> list[str]:
    """What a class of this library, or one that it is mixed with, adds or changes, in order."""
    found = {}
    for owner in cls.__mro__:
        if owner.__module__.partition(".")[0] == "shared_dense":
            found = {**vars(owner), **found}  # what the mixin has comes first
    parts = []
    for name, member in found.items():
        member = getattr(member, "__func__", member)
        if name == "__call__":
            parts.append(called(prefix, member, 3))
        elif name.startswith("_") or inspect.getdoc(member) is None:
            continue
        elif isinstance(member, property):
            parts.append(f"### {prefix}.{name}\n{text(member)}")
        elif inspect.isfunction(member):
            owner = cls.__name__ if isinstance(vars(cls).get(name), classmethod) else prefix
            parts.append(called(f"{owner}.{name}", member, 3))
    return parts


def environment() -> str:
    """The table of variables, which stands in the README."""
    (table,) = re.findall(
        r"^\| variable \| effect \|\n(?:\|.*\n)+", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    return table.strip()


def page() -> str:
    """All of docs/api.md."""
    import shared_dense as sd
    from shared_dense import __main__ as command

    state = importlib.import_module("shared_dense.state")
    loads = (ROOT / "python/shared_dense/load_op.py").read_text()  # importing it loads the op
    loads = type("load_op", (), {"__doc__": re.match(r'"""(.*?)"""', loads, re.DOTALL)[1]})
    parts = [
        "# Reference",
        "Made from the docstrings by `make docs`; edit those.",
        text(sd),
        called("shared_matmul", sd.shared_matmul),
        called("SharedDense", sd.SharedDense),
        *members(sd.SharedDense, "layer"),
        called("TransposedDense", sd.TransposedDense),
        *members(sd.TransposedDense, "decoder"),
        called("Shared", sd.Shared),
        called("export", sd.export),
        called("status", sd.status),
        f"## Status\n{text(state.Status)}",
        *members(state.Status, "status"),
        called("fallback", sd.fallback),
        f"## import shared_dense.load_op\n{text(loads)}",
        f"## python -m shared_dense\n{text(command)}\n\n{text(command.main)}",
        f"## Environment\n{environment()}",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
