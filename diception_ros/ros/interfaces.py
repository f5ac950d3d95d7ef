# SPDX-License-Identifier: Apache-2.0
"""The package's own messages, or a clear word on how to build them."""

try:
    from diception_ros.msg import (
        FrameReport,
        Instance,
        InstanceArray,
        Keypoint,
        KeypointArray,
        PointPrompts,
    )
except ImportError as error:
    raise ImportError(
        "the messages of diception_ros are not built: run 'colcon build' in the workspace and "
        "source its install folder, or 'make build' in a checkout without ROS (see "
        "CONTRIBUTING.md)"
    ) from error

__all__ = [
    "FrameReport",
    "Instance",
    "InstanceArray",
    "Keypoint",
    "KeypointArray",
    "PointPrompts",
]
