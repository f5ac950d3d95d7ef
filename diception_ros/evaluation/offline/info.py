# SPDX-License-Identifier: Apache-2.0
"""What is in a bag, what of it can be used for what, and what a run over it costs."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from diception_ros.engine import Engine
from diception_ros.evaluation.offline import sources
from diception_ros.evaluation.offline.frames import Frames
from diception_ros.evaluation.offline.mcap import pack
from diception_ros.evaluation.offline.plan import (
    CAMERA_INFO,
    IMAGES,
    NO_CAMERA,
    PROMPTS,
    Plan,
    info_of,
)
from diception_ros.evaluation.offline.poses import bag_transforms
from diception_ros.evaluation.offline.timeline import shots
from diception_ros.ros.content import FRAME_REPORT
from diception_ros.ros.incoming import Prompts

SAMPLES = 10
"""Messages of a topic that are looked at for its size."""
NO_METRES = re.compile("disparity|mask|confidence")
"""In names of one-channel images that hold no metres, though their encoding would do."""
TIMED = 4
"""Images answered to tell the cost, the first of which warms up."""


@dataclass(frozen=True)
class TopicInfo:
    """hz: mean rate; bytes_per_minute: of recording, serialized and not packed; use: what
    `diception bag` could take it for, "" for nothing."""

    name: str
    msgtype: str
    messages: int
    hz: float
    bytes_per_minute: float
    use: str


@dataclass(frozen=True)
class BagInfo:
    """seconds: from the first message to the last; size: bytes on the disk."""

    path: Path
    seconds: float
    size: int
    topics: tuple[TopicInfo, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """Of a run over one bag, from a few of its images: s an image, packed bytes an image."""

    images: int
    seconds_each: float
    bytes_each: float


def look(path: Path) -> BagInfo:
    """ValueError for a path that is no bag."""
    with sources.opened(path) as bag:
        start, end = bag.span
        seconds = (end - start) / 1e9
        topics, sizes = bag.topics, _sizes(bag)
        found = []
        for one in topics.values():
            hz = (one.messages - 1) / seconds if seconds > 0 and one.messages > 1 else 0.0
            found.append(
                TopicInfo(
                    one.name,
                    one.msgtype,
                    one.messages,
                    hz,
                    sizes.get(one.name, 0.0) * hz * 60,
                    _use(one, topics, bag, sizes),
                )
            )
        files = path.rglob("*") if path.is_dir() else [path]
        size = sum(file.stat().st_size for file in files if file.is_file())
        return BagInfo(path, seconds, size, tuple(found), bag.notes)


def cost(plan: Plan, engine: Engine, points: Prompts | None = None) -> Cost:
    """Answers a few images of the plan's only bag. points: see Run. ValueError when there are
    none."""
    path, times, written, answered = plan.bags[0], [time.monotonic()], 0, False
    with sources.opened(path) as bag, bag_transforms(bag, _ignored) as poses:
        topics = plan.topics(bag)
        frames = Frames(engine, plan.parameters, points=points, find_pose=poses)
        few = islice(shots(bag, topics, plan.window(bag), _ignored), TIMED)
        for answer in frames.answers(few):
            times.append(time.monotonic())
            data = [bytes(one.data) for one in answer.messages]
            data += [bytes(raw.data) for raw in answer.shot.passed]
            written = max(written, len(pack(b"".join(data))))
            answered |= bool(answer.messages)
        images = math.ceil(plan.images(bag) / plan.every)
    if not answered:
        raise ValueError(f"{path}: no image of {topics.camera} could be answered")
    warm = times[1:] if len(times) > 2 else times
    return Cost(images, (warm[-1] - warm[0]) / (len(warm) - 1), written)


def _ignored(*_: object) -> None:
    """What is left out is named by the run itself."""


def _sizes(bag: sources.Bag) -> dict[str, float]:
    """Mean bytes of the first messages of each topic."""
    found = {}
    for name in bag.topics:
        few = islice(bag.messages({name}, _ignored), SAMPLES)
        lengths = [len(raw.data) for raw in few]
        if lengths:
            found[name] = sum(lengths) / len(lengths)
    return found


def _use(
    one: sources.Topic,
    topics: Mapping[str, sources.Topic],
    bag: sources.Bag,
    sizes: Mapping[str, float],
) -> str:
    if one.name not in sizes:
        return ""
    if one.msgtype in IMAGES and not NO_CAMERA.search(one.name) and not _is_depth(bag, one):
        info = info_of(one.name)
        has = info in topics and topics[info].msgtype == CAMERA_INFO
        return "camera" if has else f"camera, without {info}: no metres"
    if one.msgtype == "sensor_msgs/msg/PointCloud2" or _is_depth(bag, one):
        return "" if NO_METRES.search(one.name) or _is_answer(one, topics) else "reference"
    return "prompts" if one.msgtype in PROMPTS else ""


def _is_answer(one: sources.Topic, topics: Mapping[str, sources.Topic]) -> bool:
    """Whether it lies below a node that reported its frames: no measurement, but what it made of
    one."""
    nodes = [t.name.rpartition("/")[0] for t in topics.values() if t.msgtype == FRAME_REPORT]
    return any(one.name.startswith(f"{node}/") for node in nodes)


def _is_depth(bag: sources.Bag, one: sources.Topic) -> bool:
    if one.msgtype != IMAGES[0]:
        return False
    try:
        first = sources.decode(next(bag.messages({one.name}, _ignored)))
    except (ValueError, StopIteration):
        return False
    return first.encoding in ("32FC1", "16UC1", "mono16")
