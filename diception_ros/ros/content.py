# SPDX-License-Identifier: Apache-2.0
"""Messages as plain content, so that what they hold is made once, with or without ROS.

No ROS here: the node turns contents into rclpy's messages (`native.py`), `diception bag` serializes
them as they are.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

IMAGE = "sensor_msgs/msg/Image"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
POINT_CLOUD = "sensor_msgs/msg/PointCloud2"
POINT_FIELD = "sensor_msgs/msg/PointField"
POINT = "geometry_msgs/msg/Point"
BOND_STATUS = "bond/msg/Status"
LABEL_INFO = "vision_msgs/msg/LabelInfo"
VISION_CLASS = "vision_msgs/msg/VisionClass"
FRAME_REPORT = "diception_ros/msg/FrameReport"
INSTANCE = "diception_ros/msg/Instance"
INSTANCE_ARRAY = "diception_ros/msg/InstanceArray"
KEYPOINT = "diception_ros/msg/Keypoint"
KEYPOINT_ARRAY = "diception_ros/msg/KeypointArray"
POINT_PROMPTS = "diception_ros/msg/PointPrompts"


class Content(SimpleNamespace):
    """The fields of one message of type `msgtype`, all of them: Content within Content, lists of
    it, and flat numpy arrays of the field's dtype for arrays of numbers. Headers and whole input
    messages stay what they were."""

    def __init__(self, msgtype: str, **fields: Any) -> None:
        super().__init__(**fields)
        self.msgtype = msgtype
