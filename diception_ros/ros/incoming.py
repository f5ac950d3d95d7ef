# SPDX-License-Identifier: Apache-2.0
"""What comes in beside the images, apart from how it comes. No ROS here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from diception_ros.tasks import Request


@dataclass(frozen=True)
class Incoming:
    """An image as it came. received: time.monotonic() seconds."""

    topic: str
    message: Any
    received: float


@dataclass(frozen=True)
class Prompts:
    """Points (x, y) in pixels of the input image, labels 1 inside, 0 outside. frame_id "" means
    any camera; header: as it came. place: of a click in space, metres in the header's frame, which
    has its pixel only in a frame (see requests.seen). shared: others listen to the topic, too, or
    may: a click in space is for every camera that sees the place."""

    topic: str
    points: tuple[tuple[float, float], ...]
    labels: tuple[int, ...]
    frame_id: str = ""
    header: Any = None
    place: tuple[float, float, float] | None = None
    shared: bool = False

    def meant_for(self, frame_id: str) -> bool:
        return self.frame_id in ("", frame_id)


def read_prompts(message: Any, topic: str) -> Prompts | None:
    """PointPrompts -> Prompts, None for no points (which ends the answers).
    ValueError for lists of unequal length, too many points or points that are no numbers."""
    if len(message.x) != len(message.y) or len(message.labels) not in (0, len(message.x)):
        raise ValueError(
            f"{topic}: {len(message.x)} x, {len(message.y)} y and {len(message.labels)} labels; "
            "expected as many of each, or no labels"
        )
    points = tuple((float(x), float(y)) for x, y in zip(message.x, message.y, strict=True))
    if not all(math.isfinite(x) and math.isfinite(y) for x, y in points):
        raise ValueError(f"{topic}: a point is not finite: {points}")
    labels = tuple(int(label) for label in message.labels) or (1,) * len(points)
    Request("point", points=points, labels=labels)  # checks their number
    header = message.header
    return Prompts(topic, points, labels, header.frame_id, header) if points else None
