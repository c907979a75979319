"""setuptools' build backend, plus one requirement: the TensorFlow to build against.

An op library runs only on the TensorFlow minor version it was built for, so an isolated build
must not pick one of its own. It takes the version installed in the environment that asked for the
build, and the one we ship for where there is none.
"""

import os

import setuptools
import tensorflow_package
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403

if int(setuptools.__version__.partition(".")[0]) < 77:  # of an environment without isolation
    raise RuntimeError(
        f"shared-dense needs setuptools 77 or later to build, and this environment has "
        f"{setuptools.__version__}: pip install -U setuptools, or leave out --no-build-isolation."
    )


def _tensorflow():
    if os.environ.get("SHARED_DENSE_NO_EXTENSION", "0") not in ("", "0"):
        return []
    wanted = os.environ.get("SHARED_DENSE_TENSORFLOW")
    if wanted:
        return [wanted]
    found = tensorflow_package.installed(tensorflow_package.of_environment())
    return ["==".join(found)] if found else [tensorflow_package.SHIPPED_FOR]


def get_requires_for_build_wheel(config_settings=None):
    """Requirements of an isolated wheel build."""
    return build_meta.get_requires_for_build_wheel(config_settings) + _tensorflow()


def get_requires_for_build_editable(config_settings=None):
    """Requirements of an isolated editable build."""
    return build_meta.get_requires_for_build_editable(config_settings) + _tensorflow()
