"""Runs the Python of README.md and docs/*.md, and holds it to the results they quote.

The convention, for who writes them:

- Every ```python block runs, in order, all blocks of a file in one namespace and one empty working
  directory: a reader who pastes them one after the other sees the same.
- A ```text block right after it (blank lines between them at most) is what it prints, line by line.
  If that text begins with the name of an exception and a colon, the block must raise it, with that
  message; line breaks are free there. `...` stands for anything.
- A block that prints and is followed by no ```text block may print what it likes; one that raises
  without one fails.
- `<!-- not run: why -->` on the line before a ```python block leaves it out.
- `<!-- in a process of its own -->` there runs it in one, with nothing of ours imported, in the
  same directory; `<!-- in a process of its own, without shared_dense -->` where that is not
  installed.
- Blocks of any other language, indented ones too, are prose.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import json
import re
import subprocess
from pathlib import Path

import keras
import pytest
import warm

import shared_dense as sd

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```(\w*).*\n((?:.*\n)*?)```[ ]*$", re.MULTILINE)
RAISED = re.compile(r"[\w.]*(Error|Exception)\b: ?")
COLOURS = re.compile(r"\x1b\[\d*m")
APART = re.compile(r"<!-- in a process of its own(, without shared_dense)? -->")
# Runs the code it reads; an error goes to stderr, on one line.
PROGRAM = """
import json, sys
{missing}
try:
    exec(sys.stdin.read(), {{"__name__": "__main__"}})
except Exception as error:
    sys.exit(json.dumps([type(error).__name__, str(error)]))
"""


@dataclasses.dataclass
class Block:
    """A block of Python, the line its code starts on, and the text that follows it, if any."""

    code: str
    line: int
    apart: re.Match | None = None  # to be run in a process of its own
    expected: str | None = None


def blocks_of(markdown: str) -> list[Block]:
    blocks, end = [], None
    for fence in FENCE.finditer(markdown):
        language, body = fence.groups()
        before = markdown[: fence.start()].rstrip("\n").rsplit("\n", 1)[-1]
        follows = end is not None and not markdown[end : fence.start()].strip()
        end = None
        if language == "python" and not before.startswith("<!-- not run:"):
            line = markdown.count("\n", 0, fence.start(2)) + 1
            blocks.append(Block(body, line, APART.fullmatch(before)))
            end = fence.end()
        elif language == "text" and follows:
            blocks[-1].expected = body
    return blocks


def matches(expected: str, got: str) -> bool:
    return (
        re.fullmatch(".*".join(map(re.escape, expected.split("..."))), got, re.DOTALL) is not None
    )


def lines(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def words(text: str) -> str:
    return " ".join(COLOURS.sub("", text).split())


def run_here(code, namespace, may_raise) -> tuple[str, str]:
    """What it prints, and the error it raises or ""."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            exec(code, namespace)
        except Exception as error:
            if not may_raise:
                raise
            return printed.getvalue(), f"{type(error).__name__}: {error}"
    return printed.getvalue(), ""


def run_apart(block: Block) -> tuple[str, str]:
    """The same, in a process of its own."""
    missing = "sys.modules['shared_dense'] = None" if block.apart.group(1) else ""
    done = subprocess.run(
        [*warm.python(), "-W", "ignore", "-c", PROGRAM.format(missing=missing)],
        input=block.code,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith('["')]
    return done.stdout, ": ".join(json.loads(errors[-1])) if done.returncode else ""


def run(markdown: str, name: str) -> None:
    namespace = {"__name__": "__main__"}
    for block in blocks_of(markdown):
        where = f"{name}:{block.line}"
        # Blank lines before it, so that a traceback names the line of the document.
        code = compile("\n" * (block.line - 1) + block.code, str(ROOT / name), "exec")
        must_raise = block.expected is not None and RAISED.match(block.expected)
        if block.apart:
            printed, error = run_apart(block)
            assert must_raise or not error, f"{where} raises: {error}"
        else:
            printed, error = run_here(code, namespace, must_raise)
        if must_raise:
            assert error, f"{where} raises nothing, but quotes: {block.expected}"
            got = words(error)
            assert matches(words(block.expected), got), f"{where} raises: {got}"
        elif block.expected is not None:
            got = lines(printed)
            assert matches(lines(block.expected), got), f"{where} prints:\n{got}"


@pytest.fixture
def _as_in_a_fresh_session(tmp_path, monkeypatch):
    assert sd.status().available, f"the documents show the op: {sd.status().reason}"
    monkeypatch.chdir(tmp_path)
    keras.utils.clear_session()  # the numbers in names of layers
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_documents_are_true(file, _as_in_a_fresh_session):
    run(file.read_text(), str(file.relative_to(ROOT)))


def test_the_reference_is_made_from_the_docstrings():
    spec = importlib.util.spec_from_file_location("api_docs", ROOT / "tools" / "api_docs.py")
    api_docs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(api_docs)
    page = api_docs.page()
    assert api_docs.PAGE.read_text() == page, "docs/api.md is stale: make docs"
    missing = [name for name in sd.__all__ if f"\n## {name}\n" not in page]
    assert missing == ["__version__"]


PRINTS = "```python\nprint('a', 1)\nprint('b')\n```\n"
APART_PRINTS = "<!-- in a process of its own -->\n```python\nprint('x' in vars())\n```\n"
APART_RAISES = (
    "<!-- in a process of its own, without shared_dense -->\n"
    "```python\nimport shared_dense.ops\n```\n"
)
RAISES = "```python\nx = 1\n```\n\n```python\nraise ValueError(f'no {x}\\nmore')\n```\n"


@pytest.mark.parametrize(
    "markdown",
    [
        PRINTS,
        PRINTS + "\n```text\na 1\nb\n```\n",
        PRINTS + "```text\na ...\nb\n```\n",
        PRINTS + "So much for this.\n```text\nc\n```\n",
        RAISES + "```text\nValueError: no 1 more\n```\n",
        RAISES + "```text\nValueError: ...\nmore\n```\n",
        "<!-- not run: needs a GPU -->\n```python\n1 / 0\n```\n```text\nc\n```\n",
        "```python\nx = 1\n```\n" + APART_PRINTS + "```text\nFalse\n```\n",
        APART_RAISES + "```text\nModuleNotFoundError: ...\n```\n",
        "```\n1 / 0\n```\n```sh\nfalse\n```\n    ```python\n    1 / 0\n    ```\n",
    ],
)
def test_the_convention_accepts(markdown):
    run(markdown, "page.md")


@pytest.mark.parametrize(
    "markdown, wrong",
    [
        (PRINTS + "```text\na 1\n```\n", "page.md:2 prints"),
        (PRINTS + "```text\na 1 b\n```\n", "page.md:2 prints"),
        (RAISES, "no 1"),
        (RAISES + "```text\nno 1 more\n```\n", "no 1"),
        (RAISES + "```text\nValueError: no 2 more\n```\n", "page.md:6 raises"),
        (RAISES + "```text\nTypeError: no 1 more\n```\n", "page.md:6 raises"),
        (PRINTS + "```text\nValueError: a\n```\n", "page.md:2 raises nothing"),
        (APART_PRINTS + "```text\nTrue\n```\n", "page.md:3 prints"),
        (APART_PRINTS + "```text\nValueError: a\n```\n", "page.md:3 raises nothing"),
        (APART_RAISES, "page.md:3 raises: ModuleNotFoundError"),
    ],
)
def test_the_convention_refuses(markdown, wrong):
    with pytest.raises((AssertionError, ValueError), match=wrong):
        run(markdown, "page.md")
