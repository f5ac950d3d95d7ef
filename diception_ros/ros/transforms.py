# SPDX-License-Identifier: Apache-2.0
"""Poses from TF, where tf2_ros is installed (it is not on PyPI)."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any

FindPose = Callable[[str, str, Any], tuple[float, ...]]
"""find_pose(target, source, stamp): pose x y z qx qy qz qw of frame source in frame target.
ValueError with the reason where there is none."""


def no_pose(target: str, source: str, stamp: Any) -> tuple[float, ...]:
    """Where nobody listens to TF."""
    raise ValueError(f"no transform from '{source}' to '{target}': nobody listens to TF here")


class Transforms:
    """Listens to TF from the first question on. Any thread may ask; the node's executor
    receives."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._buffer: Any = None

    def __call__(self, target: str, source: str, stamp: Any) -> tuple[float, ...]:
        """See FindPose."""
        with self._lock:
            if self._buffer is None:
                self._buffer = listen(self._node)
        try:
            found = self._buffer.lookup_transform(target, source, stamp).transform
        except Exception as error:  # tf2's own kinds, which cannot be named without tf2
            raise ValueError(f"no transform from '{source}' to '{target}': {error}") from error
        place, turn = found.translation, found.rotation
        return place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w


def listen(node: Any) -> Any:
    """A tf2_ros Buffer that the node fills. ValueError without tf2_ros."""
    try:
        tf2_ros = importlib.import_module("tf2_ros")
    except ImportError as error:
        raise ValueError(
            "poses from TF need tf2_ros: apt install ros-$ROS_DISTRO-tf2-ros-py, or give "
            "scale.reference.extrinsics or scale.ground_plane.height, pitch and roll"
        ) from error
    buffer = tf2_ros.Buffer(node=node)
    buffer.listener = tf2_ros.TransformListener(buffer, node)
    return buffer
