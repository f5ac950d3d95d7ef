# SPDX-License-Identifier: Apache-2.0
"""Depth, camera, picture and pose out of a bag, without ROS."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rosbags.image import ImageError, message_to_cvimage
from rosbags.image.image import to_cvtype

from diception_ros.evaluation.bags import message_types, read_all, warn_once
from diception_ros.geometry import Intrinsics
from diception_ros.geometry.transforms import TransformTree

IMAGE, INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
COMPRESSED, TF = "sensor_msgs/msg/CompressedImage", "tf2_msgs/msg/TFMessage"
CLOUD = "sensor_msgs/msg/PointCloud2"
STATIC = "/tf_static"
DEPTH_ENCODINGS = ("32FC1", "16UC1")
COLOURED = ("rgb", "bgr", "bayer", "yuv", "uyvy")
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
    depth/image. camera_info: depth's sibling. picture: an image in colour with depth's frame id and
    one of its stamps, colour twins (*_color) left out.
    ValueError naming what is missing, or the candidates where there are several."""
    firsts = _first_messages(bag)
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
    camera_info = camera_info or sibling(depth)
    if kinds.get(camera_info) != INFO:
        infos = ", ".join(t for t, kind in kinds.items() if kind == INFO) or "none"
        raise ValueError(
            f"{depth} has no camera info at {camera_info}: name it, the bag has {infos}"
        )
    return Topics(depth, camera_info, picture or _picture_topic(firsts, depth), kinds)


def sibling(topic: str, name: str = "camera_info") -> str:
    """/a/image -> /a/camera_info."""
    return f"{topic.rpartition('/')[0]}/{name}"


def read_transforms(bag: Path, topics: Topics) -> TransformTree:
    """Everything on the bag's TF topics; those that end in /tf_static are valid at any time."""
    tree = TransformTree()
    names = {topic for topic, kind in topics.kinds.items() if kind == TF}
    for topic, message in read_all(bag, names):
        for item in message.transforms:
            tree.add_stamped(item, always=topic.endswith(STATIC))
    return tree


def read_depth(bag: Path, topics: Topics) -> Iterator[DepthFrame]:
    """Depth images with their camera, each with the picture of its own stamp where there is one.
    Those without come at the latest KEPT images later. What is damaged is left out, with one
    warning a topic. ValueError, naming the topic, where no image gives metres."""
    infos, found, cause = _Infos(bag, topics.camera_info), False, None
    for message, picture in _paired(bag, topics):
        rgb = None
        try:
            rgb = None if picture is None else colour_array(picture, topics.picture or "")
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
    depths: OrderedDict[int, Any] = OrderedDict()
    pictures: OrderedDict[int, Any] = OrderedDict()
    wanted = {topics.depth} | ({topics.picture} if topics.picture else set())
    for topic, message in read_all(bag, wanted):
        stamp = stamp_of(message.header)
        (depths if topic == topics.depth else pictures)[stamp] = message
        if stamp in depths and (stamp in pictures or topics.picture is None):
            yield depths.pop(stamp), pictures.pop(stamp, None)
        while len(pictures) > KEPT:
            pictures.popitem(last=False)
        while len(depths) > KEPT:
            yield depths.popitem(last=False)[1], None
    for message in depths.values():
        yield message, None


def stamp_of(header: Any) -> int:
    """Nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def depth_array(message: Any, topic: str) -> npt.NDArray[np.float32]:
    """sensor_msgs/Image 32FC1 (metres) or 16UC1 (millimetres, 0 unknown; REP 118) -> (H, W) float32
    metres, NaN unknown. ValueError naming the topic."""
    if message.encoding not in DEPTH_ENCODINGS:
        raise ValueError(
            f"{topic}: expected a depth image of {' or '.join(DEPTH_ENCODINGS)}, "
            f"found '{message.encoding}'"
        )
    rows = _rows(message, 4 if message.encoding == "32FC1" else 2, topic)
    order = ">" if message.is_bigendian else "<"
    if message.encoding == "32FC1":
        meters = np.asarray(rows.view(f"{order}f4"), np.float32)
    else:
        meters = np.asarray(rows.view(f"{order}u2") / 1000, np.float32)
    return np.where(np.isfinite(meters) & (meters > 0), meters, np.float32(np.nan))


def colour_array(message: Any, topic: str) -> npt.NDArray[np.uint8]:
    """Image or CompressedImage -> (H, W, 3) uint8 RGB. ValueError naming the topic."""
    try:
        if not hasattr(message, "format"):
            bits, _, _, channels = to_cvtype(message.encoding)
            # rosbags-image takes rows for unpadded.
            rows = _rows(message, bits * channels // 8, topic)
            known = {name: getattr(message, name) for name in ("height", "width", "encoding")}
            message = SimpleNamespace(**known, is_bigendian=message.is_bigendian, data=rows)
        return np.ascontiguousarray(message_to_cvimage(message, "rgb8"), np.uint8)
    except (ImageError, AssertionError, cv2.error) as error:
        reason = " ".join(str(error).split()) or "damaged data"
        raise ValueError(f"{topic}: not a picture that can be read: {reason}") from error


def camera_of(info: Any, topic: str, width: int, height: int) -> Intrinsics:
    """The intrinsics of P (of K where P is empty, as depth_image_proc does) for an image of this
    size. ValueError naming the topic."""
    p, k = info.p, info.k
    fx, fy, cx, cy = (p[0], p[5], p[2], p[6]) if p[0] and p[5] else (k[0], k[4], k[2], k[5])
    try:
        size = int(info.width), int(info.height)
        known = Intrinsics(float(fx), float(fy), float(cx), float(cy), *size)
        return known.scaled(width, height)
    except ValueError as error:
        raise ValueError(f"{topic}: {error}") from error


class _Infos:
    """Camera infos by stamp, else the first; read on the first question."""

    def __init__(self, bag: Path, topic: str) -> None:
        self.topic = topic
        self._known = {stamp_of(m.header): m for _, m in read_all(bag, {topic})}
        self._first = next(iter(self._known.values()), None)

    def at(self, stamp: int) -> Any:
        if self._first is None:
            raise ValueError(f"{self.topic} holds no message")
        return self._known.get(stamp, self._first)


def _frame(
    topics: Topics, message: Any, infos: _Infos, rgb: npt.NDArray[np.uint8] | None
) -> DepthFrame:
    depth = depth_array(message, topics.depth)
    height, width = depth.shape
    stamp = stamp_of(message.header)
    camera = camera_of(infos.at(stamp), topics.camera_info, width, height)
    if rgb is not None and rgb.shape[:2] != depth.shape:
        resized = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        rgb = np.asarray(resized, np.uint8)
    return DepthFrame(stamp, message.header.frame_id.lstrip("/"), depth, camera, rgb)


def _first_messages(bag: Path) -> dict[str, tuple[str, Any]]:
    """Type and first message of every topic that matters here."""
    firsts: dict[str, tuple[str, Any]] = {}
    for topic, kind in message_types(bag).items():
        if kind in (IMAGE, INFO, COMPRESSED, TF):
            for _, message in read_all(bag, {topic}):
                firsts[topic] = (kind, message)
                break
    return firsts


def _depth_topic(bag: Path, firsts: Mapping[str, tuple[str, Any]]) -> str:
    images = [
        topic
        for topic, (kind, message) in firsts.items()
        if kind == IMAGE and message.encoding in DEPTH_ENCODINGS and sibling(topic) in firsts
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


def _picture_topic(firsts: Mapping[str, tuple[str, Any]], depth: str) -> str | None:
    frame_id = firsts[depth][1].header.frame_id
    names = [
        topic
        for topic, (kind, message) in firsts.items()
        if kind in (IMAGE, COMPRESSED)
        and not topic.endswith("_color")
        and message.header.frame_id == frame_id
        and (kind == COMPRESSED or message.encoding.startswith(COLOURED))
    ]
    return names[0] if names else None


def _rows(message: Any, pixel_bytes: int, topic: str) -> npt.NDArray[np.uint8]:
    """Image data without padding, (H, row bytes)."""
    data = np.frombuffer(message.data, np.uint8)
    row, height = message.width * pixel_bytes, message.height
    if message.step < row or data.size < height * message.step or not row or not height:
        raise ValueError(
            f"{topic}: image {message.width}x{height} '{message.encoding}' with step "
            f"{message.step} needs {height * max(message.step, row)} bytes, got {data.size}"
        )
    return np.ascontiguousarray(
        data[: height * message.step].reshape(height, message.step)[:, :row]
    )
