"""The house rules: what a layer may include, where private modules and the version stand."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re

import pytest
from toolchain import LAUNCHER, MACHINES, ROOT, build_core, compiler_for, find, flags_of, output

CXX = (".cc", ".h", ".inc", ".cu", ".cuh")
# About 400 lines: what one can read in one go.
LONGEST_FILE = 400


def files(*folders, suffixes):
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in suffixes and "__pycache__" not in path.parts
    )


def includes(folder):
    """(file, header) of every #include, with its quotes or brackets."""
    pattern = re.compile(r'^\s*#\s*include(?:_next)?\s*([<"][^>"]+[>"])', re.MULTILINE)
    return [
        (str(path.relative_to(ROOT)), header)
        for path in files(folder, suffixes=CXX)
        for header in pattern.findall(path.read_text())
    ]


FRAMEWORK = r'[<"](tensorflow|xla|tsl|absl|google|third_party|(unsupported/)?Eigen)/'
PYTHON = r'[<"](Python\.h|pybind11/|numpy/|python/)'
GPU = r'[<"](cuda|cu[a-z]*\.h|cublas|cutlass|cute|nv|hip)'


@pytest.mark.parametrize(
    ("folder", "banned"),
    [
        ("csrc/core", [FRAMEWORK, PYTHON, GPU, r'"(tf|cuda)/']),
        ("csrc/python", [FRAMEWORK, r'"tf/']),
        ("csrc/cuda", [FRAMEWORK, PYTHON, r'"tf/']),
        ("csrc/tf", [PYTHON, r'"jit/']),
        ("csrc/jit", [PYTHON, GPU, r'"cuda/']),
    ],
)
def test_a_layer_knows_only_those_below(folder, banned):
    wrong = [(f, h) for f, h in includes(folder) if any(re.match(b, h) for b in banned)]
    assert not wrong


def test_the_core_includes_itself_and_the_system_only():
    """A list of what is banned forgets something; this one forgets nothing."""
    allowed = re.compile(r'"core/[a-z0-9_]+\.(h|inc)"|<[a-z0-9_]+(\.h)?>')
    found = includes("csrc/core")
    assert found
    assert not [(f, h) for f, h in found if not allowed.fullmatch(h)]


PRIVATE = re.compile(r"(tensorflow\.python|keras\.src)(\.[\w.]+)?")


def private_modules(source):
    """Private modules that are imported, or named for importlib."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from tensorflow import python` names it too.
            names = [node.module or ""] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value]
        yield from (name for name in names if PRIVATE.fullmatch(name))


def test_private_modules_stay_in_compat():
    compat = ROOT / "python/shared_dense/compat.py"
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in files("python", suffixes=(".py",))
        if path != compat and (found := list(private_modules(path.read_text())))
    }
    assert not wrong


@pytest.mark.parametrize(
    "line",
    [
        "import tensorflow.python.eager",
        "from tensorflow.python.eager import record",
        "from tensorflow import python",
        "import keras.src as k",
        "importlib.import_module('keras.src.layers')",
    ],
)
def test_private_modules_are_found(line):
    assert list(private_modules(line))


def test_files_are_short():
    folders = ("csrc", "python", "tests", "bench", "examples", "tools")
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in files(*folders, suffixes=(*CXX, ".py", ".sh"))
    }
    assert lengths
    assert not {name: n for name, n in lengths.items() if n > LONGEST_FILE}


def test_the_version_stands_in_one_place():
    home = ROOT / "python/shared_dense/_version.py"
    (version,) = re.findall(r'^__version__ = "(.+)"$', home.read_text(), re.MULTILINE)
    literal = re.compile(rf"(?<![\d.]){re.escape(version)}(?![\d.])")
    elsewhere = [
        *(ROOT / name for name in ("pyproject.toml", "setup.py", "CMakeLists.txt", "Makefile")),
        *files("cmake", suffixes=(".cmake", ".in", ".py")),
        *files("csrc", suffixes=CXX),
        *files("python", "tools", suffixes=(".py",)),
    ]
    copies = [path for path in elsewhere if path != home and literal.search(path.read_text())]
    assert not copies


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The objects of the core as CMake compiles them, by a part of their name."""

    @functools.cache
    def folder(machine, compiler):
        build_core(machine, compiler, built := tmp_path_factory.mktemp(machine))
        return built

    def of(isa, compiler):
        here = output(compiler, "-dumpmachine").split("-")[0]
        (found,) = folder(here, compiler).rglob(f"kernels_{isa}.cc.o")
        return found

    return of


@pytest.mark.builds
@pytest.mark.parametrize("isa", MACHINES)
@pytest.mark.parametrize("level", ["-O0", "-O3"])
def test_kernels_share_nothing_but_their_table(isa, level, shipped, tmp_path):
    """One symbol leaves the object, none weak.

    An inline function compiled here for AVX-512 and elsewhere for the baseline is one function to
    the linker, which keeps either: older machines would crash far from here. Without optimisation
    no such function hides by being inlined.
    """
    compiler = compiler_for(MACHINES[isa])
    source = f"csrc/core/kernels_{isa}.cc"
    if level == "-O3":  # as it is shipped
        built = shipped(isa, compiler)
    else:
        built = tmp_path / "kernels.o"
        output(
            LAUNCHER, compiler, "-std=c++17", "-fPIC", level, "-I", ROOT / "csrc",
            *flags_of(source), "-Wno-ignored-attributes", "-c", ROOT / source, "-o", built,
        )  # fmt: skip
    nm = output(compiler, "-print-prog-name=nm").strip()
    listing = output(nm, "--defined-only", "--extern-only", "--demangle", "--format=posix", built)
    symbols = [line.split()[:2] for line in listing.splitlines()]
    name = "".join(word.capitalize() for word in isa.split("_"))
    assert [symbol for symbol, _ in symbols] == [f"shared_dense::kIsa{name}"]
    assert symbols[0][1] in "DR"


@pytest.mark.builds
@pytest.mark.parametrize("isa", MACHINES)
def test_kernels_are_clang_code_too(isa):
    """Clang lacks some of what GCC has for vectors, and the other way round."""
    clang, machine = find("clang++"), MACHINES[isa]
    target = [f"--target={machine}-linux-gnu"] if machine else []
    if machine:
        compiler_for(machine)  # its headers
    source = f"csrc/core/kernels_{isa}.cc"
    output(
        clang, *target, "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
        "-Wno-ignored-attributes", "-I", ROOT / "csrc", *flags_of(source), ROOT / source,
    )  # fmt: skip


def test_every_instruction_set_is_compiled_here():
    stubs = {path.stem for path in (ROOT / "csrc/core").glob("kernels_*.cc")}
    assert stubs == {f"kernels_{isa}" for isa in MACHINES}


@pytest.mark.parametrize("path", files("tools", suffixes=(".py",)), ids=lambda path: path.name)
def test_tools_hide_no_installed_module(path):
    """The build backend lives in tools/, so that a build imports from there first."""
    assert importlib.util.find_spec(path.stem) is None


def imported(name):
    """What a module of the package imports as it is imported itself."""
    tree = ast.parse((ROOT / "python" / "shared_dense" / f"{name}.py").read_text())
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.FunctionDef):  # what is inside comes later, if at all
            waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.ImportFrom) and node.module == "shared_dense":
            yield from (f"shared_dense.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("name", ["layers", "shared", "transposed"])
def test_layers_import_no_tensorflow_for_other_backends(name):
    """Keras may run on JAX or PyTorch; test_layer.py shows it where these are installed."""
    seen, waiting = set(), [f"shared_dense.{name}"]
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        package, _, rest = module.partition(".")
        assert package != "tensorflow", f"{name} imports TensorFlow, by way of {seen}"
        if package == "shared_dense" and rest:
            waiting += imported(rest)
    assert "shared_dense.structures" in seen
