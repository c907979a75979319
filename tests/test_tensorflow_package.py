"""What a wheel requires, whichever package its TensorFlow came in; `pip check` agrees."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
# Not by sys.path, which other tests read.
_SPEC = importlib.util.spec_from_file_location(
    "tensorflow_package", ROOT / "tools" / "tensorflow_package.py"
)
tensorflow_package = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tensorflow_package)

CASES = {
    ("tensorflow", "2.21.0"): (["2.21.0", "2.21.1"], ["2.20.1", "2.22.0", "2.22.0rc0"]),
    ("tensorflow-cpu", "2.21.3"): (["2.21.0", "2.21.3"], ["2.22.0"]),
    ("tensorflow", "2.22.0rc0"): (["2.22.0rc0", "2.22.0rc1", "2.22.0", "2.22.1"], ["2.21.0"]),
    ("tensorflow-cpu", "2.22.0rc1"): (["2.22.0rc1", "2.22.0"], ["2.23.0", "2.23.0rc0"]),
    ("tf-nightly-cpu", "2.22.0.dev20260905"): (["2.22.0.dev20260905"], ["2.22.0.dev20260906"]),
    ("tf-nightly", "2.22.0.dev20260905"): (["2.22.0.dev20260905"], ["2.22.0"]),
    ("tensorflow-of-a-vendor", "2.21.0+vendor5"): (["2.21.0", "2.21.0+vendor5"], ["2.22.0"]),
}


def site(folder, *packages):
    """A folder with the metadata of packages that provide `import tensorflow`."""
    for name, version in packages:
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "top_level.txt").write_text("tensorflow\n")
    return folder


@pytest.mark.parametrize("package", CASES)
def test_what_runs_it_and_what_does_not(package):
    runs, does_not = CASES[package]
    requirement = Requirement(tensorflow_package.requirement(*package))
    assert requirement.name == package[0]
    for version in runs:
        assert requirement.specifier.contains(version), version
    for version in does_not:
        assert not requirement.specifier.contains(version), version


@pytest.mark.parametrize("package", CASES)
def test_pip_check_passes(tmp_path, package):
    folder = site(tmp_path / "site", package)
    assert tensorflow_package.installed([str(folder)]) == package
    needs = tensorflow_package.requirement(*package)
    python_only = tensorflow_package.requirement_of_python_only(package)
    info = folder / "shared_dense-0.dist-info"
    for requirement, passes in (
        (needs, True), (python_only, True), ("tensorflow-of-nobody", False),
    ):  # fmt: skip
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: shared-dense\nVersion: 0\nRequires-Dist: {requirement}\n"
        )
        found = subprocess.run(
            [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"],
            env={"PYTHONPATH": str(folder), "PATH": ""},
            capture_output=True,
            text=True,
        )
        # Other packages here may want the TensorFlow that is here.
        lines = [line for line in found.stdout.splitlines() if line.startswith("shared-dense")]
        assert (not lines) == passes, found.stdout


def test_the_package_of_the_many_that_may_be_there(tmp_path):
    assert tensorflow_package.installed([str(tmp_path)]) is None
    ours, vendor = ("tensorflow-cpu", "2.21.0"), ("a-vendor", "2.21.0")
    assert tensorflow_package.installed([str(site(tmp_path, vendor))]) == vendor
    assert tensorflow_package.installed([str(site(tmp_path, ours))]) == ours
    # Without the file that says what a package provides, by its name.
    for folder in tmp_path.iterdir():
        (folder / "top_level.txt").unlink()
    assert tensorflow_package.installed([str(tmp_path)]) == ours
    assert tensorflow_package.requirement_of_python_only(None) == "tensorflow>=2.18"
