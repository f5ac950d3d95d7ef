# SPDX-License-Identifier: Apache-2.0
"""Subscriptions of one camera, and the newest of what came in beside the images."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from geometry_msgs.msg import PointStamped
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from diception_ros.ros import interfaces, qos
from diception_ros.ros.camera import CameraInfos, sibling_topic
from diception_ros.ros.incoming import Incoming, Prompts, read_prompts
from diception_ros.ros.scale import Reference

__all__ = ["Incoming", "Inputs", "LargeInput", "Prompts", "info_topic", "read_prompts"]

logger = logging.getLogger(__name__)
REFERENCES = 4
"""The newest that are kept, so that one fits an image that comes a little before or after it."""


class LargeInput:
    """A subscription to large messages that is reliable as long as every publisher is.

    With best effort one lost part loses the whole message: of 720p images hardly any arrives
    through Fast DDS's default shared memory. Reliable alone would not hear the many cameras that
    publish with best effort. Hence whichever fits, looked up again by `adapt`.
    """

    def __init__(
        self, node: Any, topic: str, kind: Any, callback: Callable[[Any], None], warn: qos.Warn
    ) -> None:
        self._node, self._topic, self._kind = node, topic, kind
        self._callback, self._warn = callback, warn
        self._name = str(node.resolve_topic_name(topic))
        self._wanted = qos.wanted_reliability(node, self._name)
        self.reliable = self._fitting()
        self._subscription = self._subscribe()

    def adapt(self) -> None:
        """Subscribes anew when the publishers' reliability has changed."""
        if self._fitting() != self.reliable:
            self.reliable = not self.reliable
            self.destroy()
            self._subscription = self._subscribe()
            how = "reliable" if self.reliable else "best effort"
            logger.info("%s: subscribed with %s, as it is published", self._name, how)

    def destroy(self) -> None:
        self._node.destroy_subscription(self._subscription)

    def _fitting(self) -> bool:
        if self._wanted != qos.AUTO:
            return self._wanted == "reliable"
        return qos.all_reliable(self._node, self._name)

    def _subscribe(self) -> Any:
        adapts = self._wanted == qos.AUTO
        with qos.named(self._name):
            return self._node.create_subscription(
                self._kind,
                self._topic,
                self._callback,
                qos.sensor(self.reliable),
                qos_overriding_options=qos.overrides_but_reliability(),
                event_callbacks=qos.subscription_events(self._name, self._warn, adapts),
            )


class Inputs:
    """Subscribes on construction. Callbacks only store; the worker thread reads the newest.
    prefix: before the topics of a camera with a name, for example "front/". ValueError for a wrong
    QoS override."""

    def __init__(
        self,
        node: Any,
        transport: str,
        on_image: Callable[[Incoming], None],
        warn: qos.Warn,
        prefix: str = "",
    ) -> None:
        self.camera_infos = CameraInfos()
        self.references: deque[Reference] = deque(maxlen=REFERENCES)
        self.prompts: Prompts | None = None
        self._node, self._warn, self._on_image = node, warn, on_image
        self._subscriptions: list[Any] = []
        self._prefix = prefix
        image = str(node.resolve_topic_name(f"{prefix}image"))
        self.image_topic = f"{image}/compressed" if transport == "compressed" else image
        self.info_topic = info_topic(node, image, prefix)
        self._large: list[LargeInput] = []
        try:
            self._subscribe_all(CompressedImage if transport == "compressed" else Image)
        except Exception:  # what there is already would go on receiving
            self.destroy()
            raise

    def adapt(self) -> None:
        """Follows the publishers' reliability; for the executor's thread, now and then."""
        for large in self._large:
            large.adapt()

    def destroy(self) -> None:
        for large in self._large:
            large.destroy()
        self._large.clear()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _subscribe_all(self, image: Any) -> None:
        prefix = self._prefix
        self._subscribe_large(self.image_topic, image, self._image)
        self._subscribe(self.info_topic, CameraInfo, self.camera_infos.add, qos.sensor())
        for topic, kind in (("reference/depth", Image), ("reference/points", PointCloud2)):
            name = str(self._node.resolve_topic_name(f"{prefix}{topic}"))
            self._subscribe_large(f"{prefix}{topic}", kind, self._store_reference(name))
        self._subscribe(
            f"{prefix}point_prompts", interfaces.PointPrompts, self._point_prompts, qos.prompts()
        )
        self._subscribe(f"{prefix}point_click", PointStamped, self._click, qos.prompts())
        self._subscribe(f"{prefix}clicked_point", PointStamped, self._click_in_space, qos.prompts())

    def _subscribe_large(self, topic: str, kind: Any, callback: Callable[[Any], None]) -> None:
        self._large.append(LargeInput(self._node, topic, kind, callback, self._warn))

    def _subscribe(self, topic: str, kind: Any, callback: Any, profile: Any) -> None:
        name = str(self._node.resolve_topic_name(topic))
        with qos.named(name):
            subscription = self._node.create_subscription(
                kind,
                topic,
                callback,
                profile,
                qos_overriding_options=qos.overrides(),
                event_callbacks=qos.subscription_events(name, self._warn),
            )
        self._subscriptions.append(subscription)

    def _image(self, message: Any) -> None:
        self._on_image(Incoming(self.image_topic, message, time.monotonic()))

    def _store_reference(self, topic: str) -> Callable[[Any], None]:
        def store(message: Any) -> None:
            self.references.append(Reference(topic, message))

        return store

    def _point_prompts(self, message: Any) -> None:
        topic = str(self._node.resolve_topic_name(f"{self._prefix}point_prompts"))
        try:
            prompts = read_prompts(message, topic)
        except ValueError as error:
            self._warn(topic, str(error))
            return
        shared = self._node.count_subscribers(topic) > 1
        self.prompts = prompts and replace(prompts, shared=shared)

    def _click(self, message: Any) -> None:
        topic = str(self._node.resolve_topic_name(f"{self._prefix}point_click"))
        point = float(message.point.x), float(message.point.y)
        self.prompts = Prompts(topic, (point,), (1,), header=message.header)

    def _click_in_space(self, message: Any) -> None:
        """RViz's Publish Point: metres, in whatever frame RViz shows."""
        topic = str(self._node.resolve_topic_name(f"{self._prefix}clicked_point"))
        place = float(message.point.x), float(message.point.y), float(message.point.z)
        self.prompts = Prompts(topic, (), (1,), header=message.header, place=place, shared=True)


def info_topic(node: Any, image_topic: str, prefix: str = "") -> str:
    """The camera info beside the image, unless `camera_info` was remapped by name."""
    name = f"{prefix}camera_info"
    remapped = str(node.resolve_topic_name(name))
    if remapped != str(node.resolve_topic_name(name, only_expand=True)):
        return remapped
    return sibling_topic(image_topic)
