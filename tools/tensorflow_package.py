"""Which package provides `import tensorflow`, and what a wheel that is built with it requires."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import metadata

SHIPPED_FOR = "tensorflow>=2.21,<2.22"


def installed(folders: Iterable[str] | None = None) -> tuple[str, str] | None:
    """Name and version of it (tensorflow-cpu, a nightly, a vendor's); None if there is none.

    folders: those to look in; None: where Python looks.
    """
    where = {} if folders is None else {"path": list(folders)}
    found = {}
    for package in metadata.distributions(**where):
        if "tensorflow" in (package.read_text("top_level.txt") or "").split():
            name = re.sub(r"[-_.]+", "-", package.metadata["Name"] or "").lower()
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
