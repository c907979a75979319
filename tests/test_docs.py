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
- Blocks of any other language, indented ones too, are prose.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from pathlib import Path

import keras
import pytest

import shared_dense as sd

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```(\w*).*\n((?:.*\n)*?)```[ ]*$", re.MULTILINE)
RAISED = re.compile(r"[\w.]*(Error|Exception)\b: ?")
COLOURS = re.compile(r"\x1b\[\d*m")


@dataclasses.dataclass
class Block:
    """A block of Python, the line its code starts on, and the text that follows it, if any."""

    code: str
    line: int
    expected: str | None = None


def blocks_of(markdown: str) -> list[Block]:
    blocks, end = [], None
    for fence in FENCE.finditer(markdown):
        language, body = fence.groups()
        before = markdown[: fence.start()].rstrip("\n").rsplit("\n", 1)[-1]
        follows = end is not None and not markdown[end : fence.start()].strip()
        end = None
        if language == "python" and not before.startswith("<!-- not run:"):
            blocks.append(Block(body, markdown.count("\n", 0, fence.start(2)) + 1))
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


def run(markdown: str, name: str) -> None:
    namespace = {"__name__": "__main__"}
    for block in blocks_of(markdown):
        where = f"{name}:{block.line}"
        # Blank lines before it, so that a traceback names the line of the document.
        code = compile("\n" * (block.line - 1) + block.code, name, "exec")
        must_raise = block.expected is not None and RAISED.match(block.expected)
        printed, error = io.StringIO(), None
        with contextlib.redirect_stdout(printed):
            try:
                exec(code, namespace)
            except Exception as raised:
                if not must_raise:
                    raise
                error = raised
        if must_raise:
            assert error is not None, f"{where} raises nothing, but quotes: {block.expected}"
            got = words(f"{type(error).__name__}: {error}")
            assert matches(words(block.expected), got), f"{where} raises: {got}"
        elif block.expected is not None:
            got = lines(printed.getvalue())
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


PRINTS = "```python\nprint('a', 1)\nprint('b')\n```\n"
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
    ],
)
def test_the_convention_refuses(markdown, wrong):
    with pytest.raises((AssertionError, ValueError), match=wrong):
        run(markdown, "page.md")
