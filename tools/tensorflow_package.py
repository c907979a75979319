"""Which package provides `import tensorflow`, and what a wheel that is built with it requires."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterable
from importlib import metadata

KNOWN = ("tensorflow", "tensorflow-cpu", "tf-nightly", "tf-nightly-cpu")
SHIPPED_FOR = "tensorflow>=2.21,<2.22"


def of_environment() -> list[str]:
    """Where the environment keeps packages, which isolation hides from imports only."""
    return list(dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib")))


def installed(folders: Iterable[str] | None = None) -> tuple[str, str] | None:
    """Name and version of it (tensorflow-cpu, a nightly, a vendor's); None if there is none.

    folders: those to look in; None: where Python looks.
    """
    where = {} if folders is None else {"path": list(folders)}
    found = {}
    for package in metadata.distributions(**where):
        name = re.sub(r"[-_.]+", "-", package.metadata["Name"] or "").lower()
        provided = package.read_text("top_level.txt")  # which a package need not have
        if name in KNOWN if provided is None else "tensorflow" in provided.split():
            found.setdefault(name, package.version)
    # A vendor's may bring `tensorflow` itself along.
    names = sorted(found, key=lambda name: (name not in ("tensorflow", "tensorflow-cpu"), name))
    return (names[0], found[names[0]]) if names else None


def requirement(name: str, version: str) -> str:
    """What runs an op library that was built with it: that minor version.

    A release candidate counts itself; every build of a nightly is a version of its own.
    """
    if ".dev" in version:
        return f"{name}=={version}"
    major, minor = map(int, re.match(r"(\d+)\.(\d+)", version).groups())
    before_release = re.match(r"[\d.]+(a|b|rc)\d+", version)
    least = before_release[0] if before_release else f"{major}.{minor}"
    return f"{name}>={least},<{major}.{minor + 1}"


def requirement_of_python_only(found: tuple[str, str] | None) -> str:
    """What runs the package without the op: any version since 2.18 of the package that is there."""
    return f"{found[0] if found else 'tensorflow'}>=2.18"
