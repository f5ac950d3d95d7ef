# SPDX-License-Identifier: Apache-2.0
"""Depth, camera, picture and pose out of a bag, without ROS."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.bags import first_messages, read_all, read_stamps, warn_once
from diception_ros.geometry import Intrinsics
from diception_ros.geometry.transforms import TransformTree
from diception_ros.ros.camera import intrinsics, sibling_topic, stamp_ns
from diception_ros.ros.images import ALIASES, PIXEL_BYTES, to_meters, to_rgb

IMAGE, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
COMPRESSED, TF = "sensor_msgs/msg/CompressedImage", "tf2_msgs/msg/TFMessage"
CLOUD = "sensor_msgs/msg/PointCloud2"
STATIC = "/tf_static"
DEPTH_ENCODINGS = ("32FC1", "16UC1")
DEPTH_FORMATS = (*DEPTH_ENCODINGS, "mono16")
"""How the formats of compressed images begin that are no pictures."""
PICTURES = {*PIXEL_BYTES, *ALIASES} - {"mono16", *DEPTH_ENCODINGS}
"""Encodings that are in colour or grey."""
GREY = ("mono8", "8UC1")
DERIVED = re.compile("(mask|confidence|depth/image_color)(/compressed)?$")
"""In names of images in 8 bits that no camera took."""
KEPT = 64
"""Depth images and pictures that wait for their partner of the same stamp."""


@dataclass(frozen=True)
class Topics:
    """Names in the bag; picture None: none has the depth's stamps. kinds: message type by topic."""

    depth: str
    camera_info: str
    picture: str | None
    kinds: Mapping[str, str]


@dataclass(frozen=True)
class DepthFrame:
    """depth (H, W) float32 metres along Z, NaN unknown; rgb (H, W, 3) uint8 or None; frame_id: the
    optical frame; stamp: nanoseconds."""

    stamp: int
    frame_id: str
    depth: npt.NDArray[np.float32]
    camera: Intrinsics
    rgb: npt.NDArray[np.uint8] | None


def find_topics(bag: Path, depth: str = "", camera_info: str = "", picture: str = "") -> Topics:
    """The topics to use; empty names are looked for.

    depth: an image of 32FC1 or 16UC1 that has a camera info; of several, the only one that ends in
    depth/image. camera_info: depth's sibling. picture: an image with depth's frame id, in colour
    rather than grey and raw rather than compressed, above all with stamps that depth has; masks
    and colour twins (*_color without a camera info of their own) are none.
    ValueError naming what is missing, or the candidates where there are several."""
    firsts = first_messages(bag, (IMAGE, INFO, COMPRESSED, TF))
    kinds = {topic: kind for topic, (kind, _) in firsts.items()}
    for name, expected in (
        (depth, (IMAGE,)),
        (camera_info, (INFO,)),
        (picture, (IMAGE, COMPRESSED)),
    ):
        if name and kinds.get(name) not in expected:
            found = kinds.get(name, "no such topic")
            raise ValueError(f"{name}: expected a topic of {expected[0]} in {bag}, found {found}")
    depth = depth or _depth_topic(bag, firsts)
    camera_info = camera_info or sibling_topic(depth)
    if kinds.get(camera_info) != INFO:
        infos = ", ".join(t for t, kind in kinds.items() if kind == INFO) or "none"
        raise ValueError(
            f"{depth} has no camera info at {camera_info}: name it, the bag has {infos}"
        )
    return Topics(depth, camera_info, picture or _picture_topic(bag, firsts, depth), kinds)


def read_transforms(bag: Path, topics: Topics) -> TransformTree:
    """Everything on the bag's TF topics; those that end in /tf_static are valid at any time. What
    is no transform is left out, with one warning a frame."""
    tree = TransformTree()
    names = {topic for topic, kind in topics.kinds.items() if kind == TF}
    for topic, message in read_all(bag, names):
        for item in message.transforms:
            try:
                tree.add_stamped(item, always=topic.endswith(STATIC))
            except ValueError as error:
                warn_once(bag, f"transform of '{item.child_frame_id}'", str(error))
    return tree


def read_depth(bag: Path, topics: Topics) -> Iterator[DepthFrame]:
    """Depth images with their camera, each with the picture of its own stamp where there is one.
    Those without come at the latest KEPT images later. What is damaged is left out, with one
    warning a topic. ValueError, naming the topic, where no image gives metres."""
    infos, found, cause = _Infos(bag, topics.camera_info), False, None
    for message, picture in _paired(bag, topics):
        rgb = None
        try:
            rgb = None if picture is None else to_rgb(picture, topics.picture or "")
        except ValueError as error:
            warn_once(bag, topics.picture or "", str(error))
        try:
            frame = _frame(topics, message, infos, rgb)
        except ValueError as error:
            cause = cause or error
            if found:
                warn_once(bag, topics.depth, str(error))
            continue
        if cause and not found:
            warn_once(bag, topics.depth, str(cause))
        found = True
        yield frame
    if cause and not found:
        raise cause


def _paired(bag: Path, topics: Topics) -> Iterator[tuple[Any, Any | None]]:
    """Messages of depth images, each with that of the picture of its stamp."""
    wanted = {topics.depth} | ({topics.picture} if topics.picture else set())
    both = set.intersection(*read_stamps(bag, wanted).values()) if topics.picture else set()
    depths: OrderedDict[int, Any] = OrderedDict()
    pictures: OrderedDict[int, Any] = OrderedDict()
    for topic, message in read_all(bag, wanted):
        stamp = stamp_ns(message.header)
        if stamp in both:
            (depths if topic == topics.depth else pictures)[stamp] = message
        elif topic == topics.depth:
            yield message, None
        if stamp in depths and stamp in pictures:
            yield depths.pop(stamp), pictures.pop(stamp)
        if len(pictures) > KEPT:
            pictures.popitem(last=False)
        if len(depths) > KEPT:
            yield depths.popitem(last=False)[1], None
    for message in depths.values():
        yield message, None


def camera_of(info: Any, topic: str, width: int, height: int) -> Intrinsics:
    """As `intrinsics`. ValueError naming the topic."""
    try:
        return intrinsics(info, width, height)
    except ValueError as error:
        raise ValueError(f"{topic}: {error}") from error


def _described(info: Any) -> tuple[Any, ...]:
    """All that `intrinsics` asks."""
    size = info.width, info.height, info.binning_x, info.binning_y
    return *size, str(info.roi), *info.k, *info.p


class _Infos:
    """Camera infos by stamp, else the first; read on the first question."""

    def __init__(self, bag: Path, topic: str) -> None:
        self.topic = topic
        kept: dict[tuple[Any, ...], Any] = {}  # most are equal, and a bag may hold many
        self._known = {
            stamp_ns(m.header): kept.setdefault(_described(m), m) for _, m in read_all(bag, {topic})
        }
        self._first = next(iter(self._known.values()), None)

    def at(self, stamp: int) -> Any:
        if self._first is None:
            raise ValueError(f"{self.topic} holds no message")
        return self._known.get(stamp, self._first)


def _frame(
    topics: Topics, message: Any, infos: _Infos, rgb: npt.NDArray[np.uint8] | None
) -> DepthFrame:
    depth = to_meters(message, topics.depth)
    height, width = depth.shape
    stamp = stamp_ns(message.header)
    camera = camera_of(infos.at(stamp), topics.camera_info, width, height)
    if rgb is not None and rgb.shape[:2] != depth.shape:
        resized = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        rgb = np.asarray(resized, np.uint8)
    return DepthFrame(stamp, message.header.frame_id.lstrip("/"), depth, camera, rgb)


def _depth_topic(bag: Path, firsts: Mapping[str, tuple[str, Any]]) -> str:
    images = [
        topic
        for topic, (kind, message) in firsts.items()
        if kind == IMAGE and message.encoding in DEPTH_ENCODINGS and sibling_topic(topic) in firsts
    ]
    preferred = [topic for topic in images if topic.endswith("depth/image")]
    chosen = preferred if len(preferred) == 1 else images
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        raise ValueError(
            f"{bag} holds no depth image with a camera_info beside it: metric depth needs a scale "
            "source while recording (scale.source)"
        )
    raise ValueError(f"{bag} holds several depth images: choose one of {', '.join(chosen)}")


def _picture_topic(bag: Path, firsts: Mapping[str, tuple[str, Any]], depth: str) -> str | None:
    frame_id = firsts[depth][1].header.frame_id
    ranks = {
        topic: rank
        for topic, (kind, message) in firsts.items()
        if kind in (IMAGE, COMPRESSED)
        and message.header.frame_id == frame_id
        and not DERIVED.search(topic)
        and (not topic.endswith("_color") or sibling_topic(topic) in firsts)
        and (rank := _rank(message)) is not None
    }
    if len(ranks) < 2:
        return next(iter(ranks), None)
    stamps = read_stamps(bag, {depth, *ranks})
    apart = {topic: stamps[depth].isdisjoint(stamps[topic]) for topic in ranks}
    return min(ranks, key=lambda topic: (apart[topic], ranks[topic], topic))


def _rank(message: Any) -> tuple[bool, bool] | None:
    """Of an image or a compressed one as a picture, the lowest first; None where it is none."""
    if hasattr(message, "encoding"):
        known, name = message.encoding in PICTURES, message.encoding
    else:
        known, name = not is_depth_format(message.format), message.format
    return (name.startswith(GREY), hasattr(message, "format")) if known else None


def is_depth_format(name: str) -> bool:
    """Whether a compressed image of this format holds metres (compressed_image_transport's names,
    as '16UC1; compressedDepth png')."""
    return "compressedDepth" in name or name.startswith(DEPTH_FORMATS)
