"""setuptools' build backend, plus one requirement: the TensorFlow to build against.

An op library runs only on the TensorFlow minor version it was built for, so an isolated build
must not pick one of its own. It takes the version installed in the environment that asked for the
build, and the one we ship for where there is none.
"""

import os
import re
import sysconfig
from importlib import metadata

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403

SHIPPED_FOR = "tensorflow>=2.21,<2.22"


def _tensorflow():
    if os.environ.get("SHARED_DENSE_NO_EXTENSION", "0") not in ("", "0"):
        return []
    wanted = os.environ.get("SHARED_DENSE_TENSORFLOW")
    if wanted:
        return [wanted]
    # Isolation hides site-packages from imports, not from a look at the folder.
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    for found in metadata.distributions(path=folders):
        name = re.sub(r"[-_.]+", "-", found.metadata["Name"] or "").lower()
        if name in ("tensorflow", "tensorflow-cpu", "tf-nightly"):
            return [f"{name}=={found.version}"]
    return [SHIPPED_FOR]


def get_requires_for_build_wheel(config_settings=None):
    """Requirements of an isolated wheel build."""
    return build_meta.get_requires_for_build_wheel(config_settings) + _tensorflow()


def get_requires_for_build_editable(config_settings=None):
    """Requirements of an isolated editable build."""
    return build_meta.get_requires_for_build_editable(config_settings) + _tensorflow()
