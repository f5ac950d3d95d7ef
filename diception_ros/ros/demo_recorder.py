# SPDX-License-Identifier: Apache-2.0
"""Records topics into an MCAP bag where `ros2 bag` is not installed: serialized bytes as they
arrive, nothing decoded. `python -m diception_ros.ros.demo_recorder --out BAG`; SIGINT ends it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rclpy
from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_share_directory,
)
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import (
    Nodetype,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

logger = logging.getLogger(__name__)

TOPICS = r"^/(camera|diception)/|^/diagnostics$"
DEPTH = 100
NEVER = QosTime(9223372036, 854775807)


class Recorder(Node):
    """Subscribes, raw, to every matching topic as soon as somebody publishes it."""

    def __init__(self, writer: Writer, pattern: str, context: Any = None) -> None:
        super().__init__("demo_recorder", context=context)
        self.writer = writer
        self.pattern = re.compile(pattern)
        self.typestore = get_typestore(Stores.ROS2_JAZZY)
        self.counts: dict[str, int] = {}
        self.skipped: dict[str, str] = {}
        self.create_timer(0.2, self.look)

    def look(self) -> None:
        """Subscribes to what is new. A topic whose type is not installed here is left out once."""
        for topic, types in self.get_topic_names_and_types():
            if topic in self.counts or topic in self.skipped or not self.pattern.search(topic):
                continue
            offered = self.get_publishers_info_by_topic(topic)
            if not offered:
                continue
            try:
                self._record(topic, types[0], offered[0].qos_profile)
            except (
                ImportError,
                AttributeError,
                PackageNotFoundError,
                OSError,
            ) as error:
                self.skipped[topic] = str(error)
                logger.warning("%s is not recorded: %s", topic, error)

    def _record(self, topic: str, type_name: str, offered: Any) -> None:
        package, _, name = type_name.split("/")
        kind = getattr(importlib.import_module(f"{package}.msg"), name)
        define(self.typestore, type_name)
        connection = self.writer.add_connection(
            topic,
            type_name,
            typestore=self.typestore,
            offered_qos_profiles=[bag_qos(offered)],
        )
        self.counts[topic] = 0

        def keep(data: bytes) -> None:
            self.writer.write(connection, time.time_ns(), data)
            self.counts[topic] += 1

        self.create_subscription(kind, topic, keep, matching(offered), raw=True)


def define(typestore: Any, type_name: str) -> None:
    """Teaches rosbags a type it does not know, and those it is made of, from the installed .msg."""
    if type_name in typestore.types:
        return
    package, _, name = type_name.split("/")
    file = Path(get_package_share_directory(package)) / "msg" / f"{name}.msg"
    types = get_types_from_msg(file.read_text(), type_name)
    for _, fields in types.values():
        for _, (kind, detail) in fields:
            element: Any = (
                detail[0] if kind in (Nodetype.ARRAY, Nodetype.SEQUENCE) else (kind, detail)
            )
            if element[0] == Nodetype.NAME:
                define(typestore, element[1])
    typestore.register(types)


def matching(offered: Any) -> Any:
    """A subscription that is compatible with the publisher's quality of service."""
    return QoSProfile(depth=DEPTH, reliability=offered.reliability, durability=offered.durability)


def bag_qos(offered: Any) -> Qos:
    """The offered quality of service as the bag's metadata holds it: players latch again."""
    reliable = offered.reliability == ReliabilityPolicy.RELIABLE
    latched = offered.durability == DurabilityPolicy.TRANSIENT_LOCAL
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=max(1, int(offered.depth)),
        reliability=QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=NEVER,
        lifespan=NEVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=NEVER,
        avoid_ros_namespace_conventions=False,
    )


def record(out: Path, pattern: str, stopped: Callable[[], bool]) -> dict[str, int]:
    """Records until stopped(); messages per topic."""
    with Writer(out, version=Writer.VERSION_LATEST, storage_plugin=StoragePlugin.MCAP) as writer:
        recorder: Any = Recorder(writer, pattern)  # Any: rclpy has no types
        # An executor of one's own: rclpy.spin_once would add and remove the node at every message.
        executor = SingleThreadedExecutor()
        executor.add_node(recorder)
        try:
            while not stopped():
                executor.spin_once(timeout_sec=0.1)
        finally:
            executor.shutdown()
            recorder.destroy_node()
        return dict(recorder.counts)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m diception_ros.ros.demo_recorder")
    parser.add_argument("--out", type=Path, required=True, help="the bag's folder; must not exist")
    parser.add_argument("--topics", default=TOPICS, help="regular expression of what to record")
    options = parser.parse_args(arguments)
    asked: list[int] = []
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda number, _: asked.append(number))
    # rclpy's own handlers would shut the context down before the bag is closed.
    rclpy.init(signal_handler_options=rclpy.SignalHandlerOptions.NO)
    counts = record(options.out, options.topics, lambda: bool(asked))
    rclpy.try_shutdown()
    sys.stdout.write(json.dumps({"event": "recorded", "topics": counts}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
