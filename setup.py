"""Runs CMake for the extension; everything static is in pyproject.toml."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))
import tensorflow_package  # noqa: E402

NO_EXTENSION = os.environ.get("SHARED_DENSE_NO_EXTENSION", "0") not in ("", "0")


def tensorflow_requirement():
    """The TensorFlow the wheel runs on: any when Python-only, else the minor it is built with."""
    if NO_EXTENSION:
        found = tensorflow_package.installed(tensorflow_package.of_environment())
        return tensorflow_package.requirement_of_python_only(found)
    found = tensorflow_package.installed()
    # An sdist is made without one; a build stops in CMake.
    return tensorflow_package.requirement(*found) if found else tensorflow_package.SHIPPED_FOR


class CleanBuild(build_py):
    """Copies the modules, and nothing that an earlier build left in the folder."""

    def run(self):
        """Empties the folder first."""
        shutil.rmtree(Path(self.build_lib) / "shared_dense", ignore_errors=True)
        super().run()


class CMakeBuild(build_ext):
    """Builds and installs all targets of CMakeLists.txt into the package folder."""

    def run(self):
        """Configures, builds and installs; ends with one clear line when there is no compiler."""
        compiler = os.environ.get("CXX", "c++").split()[0]
        if shutil.which(compiler) is None:
            sys.exit(
                f"shared-dense: no C++ compiler ({compiler}); install one (apt-get install g++) or "
                "set SHARED_DENSE_NO_EXTENSION=1 to install the Python-only package."
            )
        base = ROOT / "python" if self.inplace else Path(self.build_lib).resolve()
        build = Path(self.build_temp).resolve() / "cmake"
        version = self.distribution.get_version()
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        # An isolated build leaves behind paths of an environment that is gone by the next.
        (build / "CMakeCache.txt").unlink(missing_ok=True)
        for command in (
            ["cmake", "-S", str(ROOT), "-B", str(build), *generator]
            + [f"-DPython3_EXECUTABLE={sys.executable}", f"-DSHARED_DENSE_VERSION={version}"]
            # In place is where one develops; what is shipped need not carry them.
            + [f"-DSHARED_DENSE_TEST_ISAS={'ON' if self.inplace else 'OFF'}"]
            + [f"-DSHARED_DENSE_CUDA={os.environ.get('SHARED_DENSE_CUDA', 'auto')}"],
            ["cmake", "--build", str(build), "--parallel", str(os.cpu_count() or 1)],
            ["cmake", "--install", str(build), "--prefix", str(base / "shared_dense"), "--strip"],
        ):
            if subprocess.run(command).returncode != 0:
                sys.exit(
                    f"shared-dense: `{' '.join(command[:2])}` failed, see above. To install without"
                    " the extension (plain TensorFlow ops) set SHARED_DENSE_NO_EXTENSION=1."
                )
        installed = (build / "install_manifest.txt").read_text().splitlines()
        for library in (base / "shared_dense").glob("_*.so"):
            if str(library) not in installed:
                library.unlink()  # of another TensorFlow or core

    def get_outputs(self):
        """Files that installation must know of."""
        package = Path(self.build_lib) / "shared_dense"
        return [str(path) for path in package.glob("_*") if path.suffix in (".so", ".json")]


setup(
    install_requires=["numpy", "wrapt", tensorflow_requirement()],
    ext_modules=[] if NO_EXTENSION else [Extension("shared_dense._core", sources=[])],
    cmdclass={"build_ext": CMakeBuild, "build_py": CleanBuild},
)
