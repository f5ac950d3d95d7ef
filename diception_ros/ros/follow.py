# SPDX-License-Identifier: Apache-2.0
"""Subscribes to whatever can be looked at, as soon as somebody publishes it."""

from __future__ import annotations

import importlib
import logging
import re
import signal
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile

logger = logging.getLogger(__name__)

SHOWN = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/CameraInfo",
    "sensor_msgs/msg/PointCloud2",
    "tf2_msgs/msg/TFMessage",
    "diception_ros/msg/KeypointArray",
)
TF = SHOWN[4]
DEPTH = {TF: 100}
"""Of the subscription; 1 for images: what the viewer is too slow for is left out."""
LOOK = 0.5
"""s between two looks at the graph."""

Handle = Callable[[str, Any], None]


class Follower(Node):
    """Hands every message of the matching topics, and of TF, to `handle`."""

    def __init__(self, pattern: str, handle: Handle, context: Any = None) -> None:
        super().__init__("diception_view", context=context)
        self._pattern, self._handle = re.compile(pattern), handle
        self.followed: set[str] = set()
        self.create_timer(LOOK, self.look)

    def look(self) -> None:
        """Subscribes to what is new. A type that is not installed here is named once."""
        for topic, types in self.get_topic_names_and_types():
            if topic in self.followed or types[0] not in SHOWN:
                continue
            if types[0] != TF and not self._pattern.search(topic):
                continue
            offered = self.get_publishers_info_by_topic(topic)
            if offered:
                self.followed.add(topic)
                self._subscribe(topic, types[0], offered[0].qos_profile)

    def _subscribe(self, topic: str, type_name: str, offered: Any) -> None:
        package, _, name = type_name.split("/")
        try:
            kind = getattr(importlib.import_module(f"{package}.msg"), name)
        except (ImportError, AttributeError):
            logger.warning("%s is not shown: %s is not installed", topic, package)
            return
        profile = QoSProfile(
            depth=DEPTH.get(type_name, 1),
            reliability=offered.reliability,
            durability=offered.durability,
        )
        self.create_subscription(kind, topic, lambda message: self._handle(topic, message), profile)


def follow(pattern: str, handle: Handle) -> set[str]:
    """Follows until Ctrl-C; the topics. pattern: regular expression of the topics' names, checked
    by the caller."""
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    rclpy.init(signal_handler_options=rclpy.SignalHandlerOptions.NO)
    follower: Any = Follower(pattern, handle)
    executor = SingleThreadedExecutor()
    executor.add_node(follower)
    try:
        while not asked:
            executor.spin_once(timeout_sec=0.1)
    except ExternalShutdownException:
        pass
    finally:
        executor.shutdown()
        follower.destroy_node()
        rclpy.try_shutdown()
        signal.signal(signal.SIGINT, before)
    return set(follower.followed)
