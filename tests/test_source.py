"""The house rules: what a layer may include, where private modules and the version stand."""

from __future__ import annotations

import ast
import functools
import importlib.util
import pickle
import re
from pathlib import Path

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
# XLA's own headers have a folder of that name, too.
XLA_ROOM = rf'"xla/({"|".join(path.name for path in files("csrc/xla", suffixes=(".h",)))})"'


@pytest.mark.parametrize(
    ("folder", "banned"),
    [
        ("csrc/core", [FRAMEWORK, PYTHON, GPU, r'"(tf|cuda)/']),
        ("csrc/python", [FRAMEWORK, r'"tf/']),
        ("csrc/cuda", [FRAMEWORK, PYTHON, r'"tf/']),
        ("csrc/tf", [PYTHON, XLA_ROOM]),
        ("csrc/xla", [PYTHON, GPU, r'"cuda/']),
    ],
)
def test_a_layer_knows_only_those_below(folder, banned):
    wrong = [(f, h) for f, h in includes(folder) if any(re.match(b, h) for b in banned)]
    assert not wrong


def test_the_core_includes_itself_and_the_system_only():
    """A list of what is banned forgets something; this one forgets nothing."""
    allowed = re.compile(r'"core/(isa/)?[a-z0-9_]+\.(h|inc)"|<[a-z0-9_]+(\.h)?>')
    found = includes("csrc/core")
    assert found
    assert not [(f, h) for f, h in found if not allowed.fullmatch(h)]


def test_the_xla_room_hides_no_header_of_xla():
    """The compiler looks for "xla/..." in csrc first, also where XLA's own headers ask for it."""
    theirs = Path(importlib.util.find_spec("tensorflow").origin).parent / "include/xla"
    assert (theirs / "shape_util.h").exists()
    assert not [path for path in (ROOT / "csrc/xla").iterdir() if (theirs / path.name).exists()]


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


PACKAGE = ROOT / "python/shared_dense"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in files("python/shared_dense", suffixes=(".py",))
}
COMPAT = ("shared_dense.runtime.compat", "shared_dense.keras.compat")


def test_private_modules_stay_in_compat():
    wrong = {
        name: found
        for name, path in MODULES.items()
        if name not in COMPAT and (found := list(private_modules(path.read_text())))
    }
    assert not wrong


def trees():
    return {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def private_attributes(tree):
    """Names with one underscore in front that are read of objects, or looked up as strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr"):
            name = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
        else:
            continue
        if name.startswith("_") and not name.startswith("__"):
            yield name


def test_private_attributes_of_keras_stay_in_compat():
    """What begins with an underscore, and is none of ours, is another's."""
    ours = {"_replace", "_getframe"}  # of named tuples and sys: documented
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                ours.add(node.name)
            elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
                ours.add(node.id if isinstance(node, ast.Name) else node.attr)
            elif isinstance(node, ast.alias):
                ours.add(node.asname or node.name)
    found = {
        name: theirs
        for name, tree in trees().items()
        if (theirs := {*private_attributes(tree)} - (ours - {"_trainable"}))
    }
    assert found.pop("shared_dense.keras.compat")
    assert found.pop("shared_dense.runtime.compat")
    assert not found


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
        (found,) = folder(here, compiler).rglob(f"isa/{isa}.cc.o")
        return found

    return of


@pytest.mark.builds
@pytest.mark.parametrize("isa", MACHINES)
@pytest.mark.parametrize("level", ["-O0", "-O3"])
def test_instruction_sets_share_nothing_but_their_table(isa, level, shipped, tmp_path):
    """One symbol leaves the object, none weak.

    An inline function compiled here for AVX-512 and elsewhere for the baseline is one function to
    the linker, which keeps either: older machines would crash far from here. Without optimisation
    no such function hides by being inlined.
    """
    compiler = compiler_for(MACHINES[isa])
    source = f"csrc/core/isa/{isa}.cc"
    if level == "-O3":  # as it is shipped
        built = shipped(isa, compiler)
    else:
        built = tmp_path / "isa.o"
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
def test_instruction_sets_are_clang_code_too(isa):
    """Clang lacks some of what GCC has for vectors, and the other way round."""
    clang, machine = find("clang++"), MACHINES[isa]
    target = [f"--target={machine}-linux-gnu"] if machine else []
    if machine:
        compiler_for(machine)  # its headers
    source = f"csrc/core/isa/{isa}.cc"
    output(
        clang, *target, "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
        "-Wno-ignored-attributes", "-I", ROOT / "csrc", *flags_of(source), ROOT / source,
    )  # fmt: skip


def test_every_instruction_set_is_compiled_here():
    stubs = {path.stem for path in (ROOT / "csrc/core/isa").glob("*.cc")}
    assert stubs == {"dispatch", *MACHINES}


@pytest.mark.parametrize("path", files("tools", suffixes=(".py",)), ids=lambda path: path.name)
def test_tools_hide_no_installed_module(path):
    """The build backend lives in tools/, so that a build imports from there first."""
    assert importlib.util.find_spec(path.stem) is None


ROOMS = ("runtime", "ops", "keras", "")  # each knows those before it


def imports(tree, later=True):
    """Modules that a module imports or names in a string; `later`: also inside of functions."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        if later or not isinstance(node, ast.FunctionDef):
            waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: write `from shared_dense...`"
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in below)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and "." in str(node.value):
            yield node.value  # for importlib


def below(tree):
    """Modules of the package that a module imports, but for the version."""
    return {name for name in imports(tree) if name in MODULES} - {"shared_dense._version"}


def room_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 2 or parts[-1] in ROOMS else ""


def test_rooms_know_only_those_below():
    order = {room: i for i, room in enumerate(ROOMS)}
    wrong = [
        (name, other)
        for name, tree in trees().items()
        for other in below(tree)
        if order[room_of(other)] > order[room_of(name)]
    ]
    assert not wrong


def test_no_module_imports_itself_by_way_of_others():
    """Not even inside of functions, where Python would bear it."""
    left = {name: below(tree) for name, tree in trees().items()}
    while left:
        ends = {name for name, others in left.items() if not others & left.keys() - {name}}
        assert ends, f"a circle among {sorted(left)}"
        left = {name: others for name, others in left.items() if name not in ends}


@pytest.mark.parametrize("name", ["dense", "shared", "transposed"])
def test_layers_import_no_tensorflow_for_other_backends(name):
    """Keras may run on JAX or PyTorch; test_layer.py shows it where these are installed."""
    seen, waiting = set(), [f"shared_dense.keras.{name}"]
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        package = module.partition(".")[0]
        assert package != "tensorflow", f"{name} imports TensorFlow, by way of {seen}"
        if module in MODULES:
            waiting += imports(trees()[module], later=False)
    assert "shared_dense.keras.structures" in seen


def test_public_names_are_the_packages():
    """Pickles name where a thing is from; a room may be renamed."""
    import shared_dense as sd

    for name in set(sd.__all__) - {"__version__"}:
        thing = getattr(sd, name)
        assert thing.__module__ == "shared_dense"
        assert pickle.loads(pickle.dumps(thing)) is thing
