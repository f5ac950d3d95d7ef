# SPDX-License-Identifier: Apache-2.0
"""Messages as what can be looked at: pictures, depth, ids, points, cameras. No ROS, no viewer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.bags import image_array
from diception_ros.evaluation.depth_bags import (
    DEPTH_ENCODINGS,
    PICTURES,
    camera_of,
    is_depth_format,
)
from diception_ros.geometry import Intrinsics
from diception_ros.ros.camera import described_size
from diception_ros.ros.images import to_meters, to_rgb

Rgb = npt.NDArray[np.uint8]
FLOAT32, UNSIGNED = 7, {2: "u1", 4: "u2", 6: "u4"}
"""Data types of sensor_msgs/PointField; labels of another type are no class ids."""


@dataclass(frozen=True)
class Picture:
    """rgb (H, W, 3) uint8."""

    rgb: Rgb


@dataclass(frozen=True)
class Depth:
    """meters (H, W) float32 along Z, NaN unknown."""

    meters: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Relative:
    """values (H, W) float32 in [0, 1], near = 1; never metres."""

    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ids:
    """ids (H, W) uint8 or uint16, 0 none."""

    ids: npt.NDArray[Any]


@dataclass(frozen=True)
class Points:
    """points (N, 3) float32 metres, finite; colours (N, 3) uint8 or None; labels (N,) or None."""

    points: npt.NDArray[np.float32]
    colours: Rgb | None = None
    labels: npt.NDArray[np.uint32] | None = None


@dataclass(frozen=True)
class Pixels:
    """points (N, 2) float32 pixels (x, y)."""

    points: npt.NDArray[np.float32]


View = Picture | Depth | Relative | Ids | Points | Pixels | Intrinsics


def view_of(topic: str, message: Any, has_camera: bool) -> View | None:
    """What a message shows, None for one that shows nothing of its own (normals have a colour
    twin). has_camera: whether the topic has a camera info beside it: only then are 32FC1 metres.
    ValueError naming the topic for damaged data."""
    if hasattr(message, "fields") and hasattr(message, "point_step"):
        return points_of(topic, message)
    if hasattr(message, "keypoints"):
        found = [(point.x, point.y) for point in message.keypoints]
        return Pixels(np.array(found, np.float32).reshape(-1, 2))
    if hasattr(message, "distortion_model"):
        return camera_of(message, topic, *described_size(message))
    if hasattr(message, "format"):
        return None if is_depth_format(message.format) else Picture(to_rgb(message, topic))
    return _image(topic, message, has_camera) if hasattr(message, "encoding") else None


def _image(topic: str, message: Any, has_camera: bool) -> View | None:
    encoding = message.encoding
    if encoding in DEPTH_ENCODINGS and has_camera:
        return Depth(to_meters(message, topic))
    if encoding == "32FC1":
        return Relative(np.nan_to_num(image_array(message)))
    if encoding == "mono16" or (encoding == "mono8" and topic.endswith("mask")):
        return Ids(image_array(message))
    return Picture(to_rgb(message, topic)) if encoding in PICTURES else None


def points_of(topic: str, message: Any) -> Points:
    """PointCloud2 with float32 x, y, z and, if it has them, rgb and label. ValueError naming the
    topic for another layout or truncated data."""
    fields = {field.name: field for field in message.fields}
    if any(name not in fields or fields[name].datatype != FLOAT32 for name in "xyz"):
        raise ValueError(f"{topic}: expected a cloud with float32 x, y, z, found {list(fields)}")
    count, step = message.width * message.height, message.point_step
    if len(message.data) < count * step or message.row_step != message.width * step:
        raise ValueError(f"{topic}: {count} points need {count * step} bytes without padding")
    order = ">" if message.is_bigendian else "<"
    kinds = {**dict.fromkeys("xyz", "f4"), "rgb": "u4"}
    if "label" in fields and fields["label"].datatype in UNSIGNED:
        kinds["label"] = UNSIGNED[fields["label"].datatype]
    names = [name for name in kinds if name in fields]
    layout = {
        "names": names,
        "formats": [order + kinds[name] for name in names],
        "offsets": [fields[name].offset for name in names],
        "itemsize": step,
    }
    dtype: Any = np.dtype(layout)  # type: ignore[call-overload]  # its stubs know no dict
    table: npt.NDArray[Any] = np.frombuffer(message.data, dtype, count)
    points = np.stack([table[name] for name in "xyz"], axis=1).astype(np.float32)
    known = np.isfinite(points).all(axis=1)
    colours = labels = None
    if "rgb" in names:
        packed = table["rgb"][known].astype(np.uint32)
        colours = np.stack([packed >> shift & 255 for shift in (16, 8, 0)], 1).astype(np.uint8)
    if "label" in names:
        labels = table["label"][known].astype(np.uint32)
    return Points(points[known], colours, labels)
