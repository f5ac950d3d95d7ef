# SPDX-License-Identifier: Apache-2.0
"""pip install: the library and the `diception` command, for machines without ROS.

A robot builds the same package with colcon (CMakeLists.txt), which also makes the messages.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def version() -> str:
    """The package's own __version__, read without importing what it needs."""
    text = (ROOT / "diception_ros/__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if found is None:
        raise ValueError('expected a line __version__ = "..." in diception_ros/__init__.py')
    return found[1]


def requirements(name: str) -> list[str]:
    """The packages that a requirements file names, one a line."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


TRAIN = ["accelerate", "peft"]
BUILD = {"colcon-common-extensions", "setuptools"}

setup(
    name="diception_ros",
    version=version(),
    description="One diffusion network for all of a robot's dense perception.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[
        *find_packages(include=["diception_ros", "diception_ros.*"]),
        "diception_ros.definitions",  # the .msg files: bags explain themselves without ROS, too
    ],
    package_dir={"diception_ros.definitions": "msg"},
    package_data={
        "diception_ros": ["py.typed", "bundles/**/*", "**/*.yaml", "**/*.html"],
        "diception_ros.definitions": ["*.msg"],
    },
    install_requires=requirements("requirements.txt"),
    extras_require={
        "train": TRAIN,
        "evaluate": ["h5py", "pycocotools"],
        "open3d": ["open3d"],
        "view": ["rerun-sdk"],
        "ray": ["ray"],
        "dev": [name for name in requirements("requirements-dev.txt") if name not in BUILD],
    },
    entry_points={"console_scripts": ["diception = diception_ros.cli:main"]},
)
