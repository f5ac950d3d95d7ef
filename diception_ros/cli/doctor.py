# SPDX-License-Identifier: Apache-2.0
"""`diception doctor`: what is installed, what works, what to do."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


class State(Enum):
    OK = "[green]ok[/]"
    OPTIONAL = "[yellow]not there[/]"
    FAILED = "[red]failed[/]"


@dataclass(frozen=True)
class Finding:
    """One row: what was looked at, how it stands, what was found, what to do about it."""

    what: str
    state: State
    found: str
    advice: str = ""


PYTHON = (3, 10)
LIBRARIES = ("torch", "diffusers", "safetensors", "numpy", "scipy", "cv2", "skimage")
ROS_OPTIONAL = (
    (
        "rclpy",
        "the node",
        "source a ROS 2 install, or make build in a checkout, then ./run diception",
    ),
    (
        "diception_ros.msg",
        "its message types",
        "colcon build, then source install/setup.bash; without a ROS as for rclpy",
    ),
    ("vision_msgs", "semantic/label_info", "apt install ros-$ROS_DISTRO-vision-msgs"),
    ("launch", "launch files", "without it: python -m diception_ros.ros.node"),
)
OTHER_OPTIONAL = (
    ("rosbags.rosbag2", "bags and the demo", "pip install rosbags rosbags-image"),
    ("open3d", "filters of clouds (outliers, voxel)", "pip install open3d-cpu"),
)
CONVERSION = "image conversion"


def doctor() -> int:
    """Check the installation. Exit 0 if the library can run (ROS is not needed for that)."""
    needed = [
        check_python(),
        *map(check_library, LIBRARIES),
        check_bundle(),
        check_inference(),
    ]
    optional = [
        check_cuda(),
        check_conversion(),
        *(check_optional(*row) for row in ROS_OPTIONAL + OTHER_OPTIONAL),
    ]
    console = Console()
    console.print(as_table(needed + optional))
    broken = [row.what for row in needed if row.state is not State.OK]
    if broken:
        console.print(f"[red]The library cannot run:[/] see {', '.join(broken)} above.")
        return 1
    ros = [row for row in optional if row.what in ("rclpy", "diception_ros.msg", CONVERSION)]
    ready = all(row.state is State.OK for row in ros)
    console.print(
        "The library can run: diception infer IMAGE --task depth --out results"
        + ("\nThe node can run: diception demo" if ready else "\nThe node cannot run yet.")
    )
    return 0


def as_table(findings: list[Finding]) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for title in ("what", "state", "found", "what to do"):
        table.add_column(title, overflow="fold")
    for row in findings:
        table.add_row(row.what, row.state.value, escape(row.found), escape(row.advice))
    return table


def check_python() -> Finding:
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info >= PYTHON:
        return Finding("Python", State.OK, found)
    return Finding(
        "Python",
        State.FAILED,
        found,
        f"install Python {PYTHON[0]}.{PYTHON[1]} or newer",
    )


def check_library(name: str) -> Finding:
    """A library without which nothing works."""
    return _attempt(name, lambda: _version(importlib.import_module(name)), "pip install .")


def check_optional(name: str, serves: str, advice: str) -> Finding:
    """A library whose absence is fine: imported all the same, because half an install is worse."""
    if not is_installed(name):
        return Finding(name, State.OPTIONAL, f"serves {serves}", advice)
    found = _attempt(name, lambda: _version(importlib.import_module(name)), advice)
    distro = os.environ.get("ROS_DISTRO")
    if name == "rclpy" and found.state is State.OK and distro:
        return Finding(name, State.OK, f"{found.found} of ROS 2 {distro}")
    return found


def is_installed(name: str) -> bool:
    """Whether a module can be found. A folder of that name without __init__.py does not count:
    Python takes the launch/ of a checkout for a package.
    """
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return False
    return spec is not None and spec.origin is not None


def check_cuda() -> Finding:
    def describe() -> str:
        import torch

        if not torch.cuda.is_available():
            raise LookupError
        total = torch.cuda.get_device_properties(0).total_memory / 2**30
        return f"{torch.cuda.get_device_name(0)}, {total:.0f} GiB, CUDA {torch.version.cuda}"

    try:
        return Finding("CUDA", State.OK, describe())
    except Exception:  # a broken driver raises all sorts of things
        return Finding("CUDA", State.OPTIONAL, "everything runs on the CPU", _cuda_advice())


def check_conversion() -> Finding:
    """What turns messages into pictures: without it only the node cannot run."""
    from diception_ros.ros.images import backend

    try:
        return Finding(CONVERSION, State.OK, backend().name)
    except ValueError as error:
        found, _, advice = str(error).partition("; ")
        return Finding(CONVERSION, State.OPTIONAL, f"serves the node; {found}", advice)


def check_bundle() -> Finding:
    def describe() -> str:
        from diception_ros.model import EMBEDDED_BUNDLE, read_bundle_info

        info = read_bundle_info(EMBEDDED_BUNDLE)
        return f"{info.name}, {info.canvas[1]}x{info.canvas[0]}"

    return _attempt("embedded bundle", describe, "reinstall the package: its files are not whole")


def check_inference() -> Finding:
    """One picture through the embedded model, on the device that `auto` chooses."""

    def describe() -> str:
        import numpy as np

        from diception_ros.engine import Engine
        from diception_ros.model import EMBEDDED_BUNDLE
        from diception_ros.tasks import Request

        engine = Engine.load(EMBEDDED_BUNDLE)
        image = np.full((240, 320, 3), 127, np.uint8)
        engine.infer([image], [[Request("depth")]])
        started = time.perf_counter()
        engine.infer([image], [[Request("depth")]])
        return f"depth in {1000 * (time.perf_counter() - started):.0f} ms on {engine.device_name}"

    return _attempt("inference", describe, "see the rows above")


def _attempt(what: str, describe: Callable[[], str], advice: str) -> Finding:
    try:
        return Finding(what, State.OK, describe())
    except Exception as error:  # all belongs into the table
        reason = " ".join(str(error).split()) or type(error).__name__
        return Finding(what, State.FAILED, reason, advice)


def _cuda_advice() -> str:
    try:
        import torch

        built = torch.version.cuda
    except Exception:  # torch is broken: its own row says how
        return ""
    return "check nvidia-smi" if built else "this torch is a CPU build; fine without an NVIDIA GPU"


def _version(module: Any) -> str:
    if hasattr(module, "__version__"):
        return str(module.__version__)
    try:
        return importlib.metadata.version(module.__name__)
    except importlib.metadata.PackageNotFoundError:
        return "installed"
