"""A case as text: what is run is what is printed."""

from __future__ import annotations

from pathlib import Path

# The first lines of every program; a program that is run is given their names.
PARTS = ("prelude.py", "compare.py")


def preamble():
    """The text of both, as one: a program needs nothing of the harness."""
    texts = [Path(__file__).with_name(name).read_text() for name in PARTS]
    lines = [line for text in texts[1:] for line in text.splitlines(keepends=True)]
    later = ("from fuzz", "from __future__")
    return texts[0] + "".join(line for line in lines if not line.startswith(later))


def text(case, paths=None):
    """The case's own part of the program."""
    sources = [*case.tensors, *case.variables]
    names = ", ".join(t.name for t in sources)
    body = "\n".join(f"    {line}" for line in case.body)
    first = "call" if case.layers else "product"

    def arrays(tensors, begin):
        drawn = [
            f"numbers({[case.seed, begin + i]}{''.join(f', {n}' for n in t.shape)})"
            for i, t in enumerate(tensors)
        ]
        return f"[{', '.join(drawn)}]"

    options = {"context": "", "square": False, "weigh_rows": True, "signature": None}
    chosen = {key: getattr(case, key) for key in options if getattr(case, key) != options[key]}
    written = "".join(f"    {key}={value!r},\n" for key, value in chosen.items())
    if case.layers:
        written += "    ours=ours,\n    theirs=theirs,\n    noisy=noisy,\n"
    return (
        f"# seed {case.seed}\n"
        f"{case.makers}"
        f"def f({first}, {names}):\n{body}\n\n\n"
        f"verify(\n    f,\n"
        f"    tensors={arrays(case.tensors, 10)},\n"
        f"    variables={arrays(case.variables, 10 + len(case.tensors))},\n"
        f"    dtype={case.dtype!r},\n    mode={case.mode!r},\n    orders={case.orders!r},\n"
        f"    paths={paths or case.paths!r},\n{written}    seed={case.seed},\n)\n"
    )


def whole(case, paths=None):
    """A program to paste."""
    return f"{preamble()}\n\n{text(case, paths)}"


def execute(case, paths=None):
    """Runs what `whole` says: the preamble's modules are loaded once."""
    from fuzz import compare, prelude

    names = {**vars(prelude), **vars(compare), "__name__": "program"}
    exec(compile(text(case, paths), f"<seed {case.seed}>", "exec"), names)
