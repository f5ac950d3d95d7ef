# SPDX-License-Identifier: Apache-2.0
"""The direction of imports: what each room may know of the others."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "diception_ros"
ALLOWED = {
    "imaging": set(),
    "tasks": set(),
    "geometry": {"tasks"},  # for its result types only
    "model": {"imaging"},
    "engine": {"model", "tasks", "imaging"},
    "training": {"model", "tasks", "geometry", "imaging", "evaluation"},  # its metrics
    "evaluation": {"engine", "tasks", "geometry", "imaging"},
    "ros": {"engine", "tasks", "geometry", "imaging"},
    "cli": {"engine", "evaluation", "geometry", "imaging", "model", "ros", "tasks", "training"},
}
SHARED_NAMES = """answers camera cloud content filters images incoming loading messages offer
outputs parameter_checks parameter_groups parameters pipeline preparation requests scale spec stages
transforms worker"""
SHARED = {f"diception_ros.ros.{name}" for name in SHARED_NAMES.split()}
"""The part of the node that needs no ROS: `diception bag` gives bit for bit the same with it."""
TYPES_ONLY = {f"diception_ros.ros.{name}" for name in ("diagnostics", "inputs", "publishers")}
"""What they import for the type checker alone; test/cli/test_bag.py runs them without ROS."""
ROS_ONLY = {"rclpy", "launch", "launch_ros", "sensor_msgs", "std_msgs", "diagnostic_msgs"}
ROS_ONLY |= {"geometry_msgs", "lifecycle_msgs", "builtin_interfaces", "vision_msgs", "cv_bridge"}

MODULES = {"opencv-python-headless": "cv2", "pillow": "PIL", "PyYAML": "yaml"}
MODULES |= {"rosbags-image": "rosbags", "scikit-image": "skimage"}
"""What is imported under another name than pip's."""


def modules():
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def imported(path):
    """Dotted names of everything a file imports, inside functions too."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def room(path):
    return path.split("/")[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules())
def test_rooms_know_only_what_they_may(path):
    here = room(path)
    if here not in ALLOWED:
        return
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "diception_ros" and len(parts) > 1 and parts[1] != here:
            fits = parts[1] in ALLOWED[here] or (here == "ros" and parts[1] == "msg")
            fits |= here == "evaluation" and parts[1] == "ros" and of_shared(name)
            assert fits, f"{path} imports {name}: {here} may know {sorted(ALLOWED[here])}"


@pytest.mark.parametrize("path", modules())
def test_only_the_ros_room_imports_ros(path):
    if room(path) != "ros":
        assert not {name.split(".")[0] for name in imported(path)} & ROS_ONLY


def of_shared(name):
    """Whether a name belongs to a shared module. `from diception_ros.ros import x` does not say."""
    return name in SHARED | {"diception_ros.ros"}


@pytest.mark.parametrize("module", sorted(SHARED))
def test_what_is_shared_needs_no_ros(module):
    names = set(imported(module.removeprefix("diception_ros.").replace(".", "/") + ".py"))
    assert not {name.split(".")[0] for name in names} & ROS_ONLY
    assert {name for name in names if name.startswith("diception_ros.ros.")} <= SHARED | TYPES_ONLY


def test_what_pip_installs_is_what_is_imported():
    """transformers reads T5's tokenizer with sentencepiece, which nothing here imports."""
    lines = (ROOT.parent / "requirements.txt").read_text().splitlines()
    asked = {re.split("[<>=]", line)[0] for line in lines if not line.startswith("#")}
    found = {name.split(".")[0] for path in modules() for name in imported(path)}
    for name in asked - {"sentencepiece"}:
        assert MODULES.get(name, name) in found, f"{name} is in requirements.txt for nothing"


def test_what_a_user_is_told_to_apt_install_rosdep_installs_before():
    depends = re.findall(r"depend>(\w+)<", (ROOT.parent / "package.xml").read_text())
    text = "".join((ROOT / path).read_text() for path in modules())
    told = set(re.findall(r"ros-\$ROS_DISTRO-([a-z0-9-]*[a-z0-9])", text))
    assert told >= {"cv-bridge", "vision-msgs"}
    assert {name.replace("-", "_") for name in told} <= set(depends)


def test_the_check_sees_the_rooms():
    assert {room(path) for path in modules()} >= set(ALLOWED)
    assert "diception_ros.model" in set(imported("engine/engine.py"))
