# SPDX-License-Identifier: Apache-2.0
"""Poses from TF, where tf2_ros is installed (it is not on PyPI)."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from typing import Any

FindPose = Callable[[str, str, Any], tuple[float, ...]]
"""find_pose(target, source, stamp): pose x y z qx qy qz qw of frame source in frame target.
ValueError with the reason where there is none."""
PATIENCE = 0.1
"""Seconds that the pose of an image may come after the image: odometry often does."""
AGAIN = 1.0
"""Seconds without waiting after it was in vain: where odometry has died no image should."""


def no_pose(target: str, source: str, stamp: Any) -> tuple[float, ...]:
    """Where nobody listens to TF."""
    raise ValueError(f"no transform from '{source}' to '{target}': nobody listens to TF here")


class Transforms:
    """Listens to TF from the first question on. One per node, as a tf2_ros listener lives as long
    as its node. Any thread may ask except the executor's, which receives while others wait."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._buffer: Any = None
        self._untimely: type[Exception] = Exception
        self._waits_from: dict[tuple[str, str], float] = {}

    def __call__(self, target: str, source: str, stamp: Any) -> tuple[float, ...]:
        """See FindPose."""
        with self._lock:
            if self._buffer is None:
                self._buffer, self._untimely = listen(self._node)
        try:
            found = self._look_up(target, source, stamp).transform
        except Exception as error:  # tf2's own kinds, which cannot be named without tf2
            raise ValueError(f"no transform from '{source}' to '{target}': {error}") from error
        place, turn = found.translation, found.rotation
        return place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w

    def _look_up(self, target: str, source: str, stamp: Any) -> Any:
        """Waits for a pose of this time, but not for a frame that nobody has named: that may never
        come, and every image would wait. By a clock that no simulation stops."""
        begun = time.monotonic()
        while True:
            try:
                return self._buffer.lookup_transform(target, source, stamp)
            except self._untimely:
                now = time.monotonic()
                if begun < self._waits_from.get((target, source), 0.0):
                    raise
                if now > begun + PATIENCE:
                    self._waits_from[target, source] = now + AGAIN
                    raise
            time.sleep(0.005)


def listen(node: Any) -> tuple[Any, type[Exception]]:
    """A tf2_ros Buffer that the node fills, and what it raises for a time it has no pose of.
    ValueError without tf2_ros."""
    try:
        tf2_ros = importlib.import_module("tf2_ros")
    except ImportError as error:
        raise ValueError(
            "poses from TF need tf2_ros: apt install ros-$ROS_DISTRO-tf2-ros-py, or give "
            "scale.reference.extrinsics or scale.ground_plane.height, pitch and roll"
        ) from error
    buffer = tf2_ros.Buffer(node=node)
    buffer.listener = tf2_ros.TransformListener(buffer, node)
    return buffer, tf2_ros.ExtrapolationException
