# SPDX-License-Identifier: Apache-2.0
"""Creates the publishers of the offered topics and knows which of them anybody listens to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rclpy.impl.implementation_singleton import rclpy_implementation
from std_msgs.msg import Header

from diception_ros.ros import qos
from diception_ros.ros.content import FRAME_REPORT, LABEL_INFO
from diception_ros.ros.messages import label_info
from diception_ros.ros.native import class_of, native
from diception_ros.ros.outputs import Output, all_outputs
from diception_ros.ros.parameters import NodeParameters
from diception_ros.tasks import Task

logger = logging.getLogger(__name__)
RCLError = rclpy_implementation.RCLError
REPORT = "frame_report"
LABELS = "semantic/label_info"


class Gate:
    """Open while the node is active. Whoever publishes a frame holds it, so that a deactivation
    takes effect between two frames and publishers are not destroyed under a frame. Its openings are
    counted, so that a frame of one is not published in the next."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open = False
        self._openings = 0

    def open(self) -> None:
        with self._lock:
            self._open = True
            self._openings += 1

    def shut(self) -> None:
        with self._lock:
            self._open = False

    @property
    def is_open(self) -> bool:
        return self._open

    @contextmanager
    def held(self) -> Iterator[int]:
        """The number of this opening, 0 while the gate is shut; it stays as it is meanwhile."""
        with self._lock:
            yield self._openings if self._open else 0


class Publishers:
    """The outputs of one camera below the node's name. `sync` and `destroy` belong to the
    executor's thread, the rest to the worker's; both hold the gate. prefix: before the topics of a
    camera with a name, for example "front/"."""

    def __init__(self, node: Any, warn: qos.Warn, prefix: str = "") -> None:
        self._node, self._warn, self._prefix = node, warn, prefix
        self._outputs: tuple[Output, ...] = ()
        self._publishers: dict[str, Any] = {}
        self._label_type = _label_info_type()
        self._labelled: tuple[tuple[str, ...], float] | None = None

    def sync(self, parameters: NodeParameters, tasks: Mapping[str, Task]) -> None:
        """Creates what the parameters offer of these tasks and destroys what they no longer do.
        ValueError for a wrong QoS override."""
        self._outputs = all_outputs(tasks)
        offered = {output.topic: class_of(output.type) for output in self._offered(parameters)}
        offered[REPORT] = class_of(FRAME_REPORT)
        if "semantic" in parameters.tasks and self._label_type is not None:
            offered[LABELS] = self._label_type
        for topic in [topic for topic in self._publishers if topic not in offered]:
            self._node.destroy_publisher(self._publishers.pop(topic))
        for topic, kind in offered.items():
            if topic not in self._publishers:
                self._publishers[topic] = self._create(topic, kind)
        if "semantic" not in parameters.tasks:
            self._labelled = None

    def destroy(self) -> None:
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers.clear()
        self._labelled = None

    def name(self, topic: str) -> str:
        """The topic as people write it: below the node's name."""
        return f"~/{self._prefix}{topic}"

    def wanted(self, parameters: NodeParameters) -> list[Output]:
        """The outputs to make now: those with subscribers, or all with `compute_always`."""
        return [
            output
            for output in self._offered(parameters)
            if parameters.compute_always or self._heard(output.topic)
        ]

    def publish(self, output: Output, messages: Sequence[Any]) -> None:
        if output.topic in self._publishers:
            for message in messages:
                self._send(output.topic, message)

    def publish_report(self, message: Any) -> None:
        if REPORT in self._publishers:
            self._send(REPORT, message)

    def publish_labels(self, parameters: NodeParameters) -> None:
        """The latched class list, when it or its threshold is new. Says once which package is
        missing."""
        labels = parameters.categories, parameters.filter.instance_score
        if "semantic" not in parameters.tasks or self._labelled == labels:
            return
        before, self._labelled = self._labelled, labels
        if LABELS not in self._publishers:
            if before is None:
                logger.warning(
                    "%s is not published because the package vision_msgs is not installed: "
                    "apt install ros-$ROS_DISTRO-vision-msgs",
                    self.name(LABELS),
                )
            return
        message = label_info(Header(stamp=self._node.get_clock().now().to_msg()), *labels)
        self._publishers[LABELS].publish(native(message))

    def _offered(self, parameters: NodeParameters) -> list[Output]:
        return [output for output in self._outputs if output.offered(parameters)]

    def _send(self, topic: str, message: Any) -> None:
        with self._while_ros_lasts():
            self._publishers[topic].publish(native(message))

    def _heard(self, topic: str) -> bool:
        publisher = self._publishers.get(topic)
        with self._while_ros_lasts():
            return publisher is not None and publisher.get_subscription_count() > 0
        return False

    @contextmanager
    def _while_ros_lasts(self) -> Iterator[None]:
        """Whoever else runs the node may end its context at any moment; then nobody listens."""
        try:
            yield
        except RCLError:
            if self._node.context.ok():
                raise

    def _create(self, topic: str, kind: Any) -> Any:
        with qos.named(self.name(topic)):
            return self._node.create_publisher(
                kind,
                self.name(topic),
                qos.latched() if topic == LABELS else qos.output(),
                qos_overriding_options=qos.overrides(),
                event_callbacks=qos.publisher_events(self.name(topic), self._warn),
            )


def _label_info_type() -> Any | None:
    """vision_msgs/LabelInfo, None where vision_msgs is not installed."""
    try:
        return class_of(LABEL_INFO)
    except ImportError:
        return None
