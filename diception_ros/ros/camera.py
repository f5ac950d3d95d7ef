# SPDX-License-Identifier: Apache-2.0
"""Camera info: its topic, the message that belongs to an image, its size, and positions in 3D."""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from diception_ros.geometry import Intrinsics, depth_to_points
from diception_ros.tasks import Instance

KEPT = 64
"""Camera infos remembered, two seconds at 30 Hz: they may come before or after the image."""


RECTIFIED = re.compile(r"(?<![a-z])rect(ified)?(?![a-z])")
"""In the name of a topic."""
ENOUGH = 1000
"""Pixels of an instance's box that its median position is taken from."""


def sibling_topic(image_topic: str, name: str = "camera_info") -> str:
    """The resolved image topic -> that of its camera info: /camera/image_raw -> /camera/camera_info
    (the rule of image_transport)."""
    return f"{image_topic.rpartition('/')[0]}/{name}"


def stamp_ns(header: Any) -> int:
    """The stamp in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


class CameraInfos:
    """The newest camera infos of one camera, found by stamp."""

    def __init__(self) -> None:
        self._by_stamp: OrderedDict[int, Any] = OrderedDict()
        self._latest: Any = None

    def add(self, info: Any) -> None:
        # One assignment each: the worker thread reads while the executor adds.
        self._latest = info
        self._by_stamp[stamp_ns(info.header)] = info
        while len(self._by_stamp) > KEPT:
            self._by_stamp.popitem(last=False)

    def find(self, header: Any) -> Any | None:
        """The info of the image's own stamp, else the latest; None when none has come yet."""
        return self._by_stamp.get(stamp_ns(header), self._latest)

    def clear(self) -> None:
        """Forgets the past; the latest stays, a camera rarely changes when time jumps."""
        self._by_stamp.clear()


def described_size(info: Any) -> tuple[int, int]:
    """(width, height) in pixels of the images this info describes, binning and region included."""
    width = (info.roi.width or info.width) // max(1, info.binning_x)
    height = (info.roi.height or info.height) // max(1, info.binning_y)
    return int(width), int(height)


def resized(info: Any, header: Any, width: int, height: int) -> Any:
    """The info for an image of this size, under the image's header: unchanged where the size fits,
    otherwise K, P and the size are rescaled and binning and region resolved.
    ValueError when the info has no size."""
    result = copy.deepcopy(info)
    result.header = header
    if described_size(info) == (width, height):
        return result
    described_width, described_height = described_size(info)
    if described_width == 0 or described_height == 0:
        raise ValueError("camera info has no size: width or height is 0")
    result.k = np.array(_rescale(info.k, 3, info, (width, height)))
    result.p = np.array(_rescale(info.p, 4, info, (width, height)))
    result.width, result.height = width, height
    result.binning_x = result.binning_y = 0
    result.roi.x_offset = result.roi.y_offset = result.roi.width = result.roi.height = 0
    result.roi.do_rectify = False
    return result


def is_bent(info: Any, image_topic: str) -> bool:
    """Whether the lens bends straight lines in these images, as far as can be told: a rectified
    image comes with the D of the raw one (image_proc), so that only its name tells them apart."""
    return any(info.d) and not RECTIFIED.search(image_topic)


def misfit(info: Any, width: int, height: int) -> str:
    """Why positions in images of this size may be wrong: their proportions are not those that the
    info describes, by more than a pixel of each side. "" where they are."""
    wide, high = described_size(info)
    if abs(width * high - height * wide) <= wide + high:
        return ""
    return (
        f"describes images of {wide}x{high}, but they are {width}x{height}, so positions are wrong "
        "unless those were stretched to these; publish the info of this mode, with its region (roi)"
    )


def intrinsics(info: Any, width: int, height: int) -> Intrinsics:
    """Intrinsics in pixels of an image of this size. P is used, as by depth_image_proc, or K where
    P is empty. ValueError for a zero focal length (an uncalibrated camera)."""
    matrix = np.asarray(info.p if info.p[0] and info.p[5] else _k_as_p(info.k), np.float64)
    if not matrix[0] > 0 or not matrix[5] > 0:
        raise ValueError(
            f"focal length is zero (fx {matrix[0]:g}, fy {matrix[5]:g}): the camera is not "
            "calibrated"
        )
    scaled = _rescale(matrix, 4, info, (width, height))
    return Intrinsics(
        fx=scaled[0], fy=scaled[5], cx=scaled[2], cy=scaled[6], width=width, height=height
    )


def _rescale(values: Any, columns: int, info: Any, size: tuple[int, int]) -> list[float]:
    """K (3 columns) or P (4) of the full sensor -> of an image of this size.

    Pixel centres lie on whole numbers, so a principal point c goes to (c + 0.5) * s - 0.5.
    """
    width, height = described_size(info)
    region_width, region_height = info.roi.width or info.width, info.roi.height or info.height
    matrix = np.array(values, np.float64).reshape(3, columns)
    for row, shift, full, described, wanted in (
        (0, info.roi.x_offset, region_width, width, size[0]),
        (1, info.roi.y_offset, region_height, height, size[1]),
    ):
        if full == 0 or described == 0:
            raise ValueError("camera info has no size: width or height is 0")
        scale = wanted / full
        matrix[row, :2] *= scale
        matrix[row, 2] = (matrix[row, 2] - shift + 0.5) * scale - 0.5
        if columns == 4:
            matrix[row, 3] *= scale
    return [float(value) for value in matrix.reshape(-1)]


def _k_as_p(k: Any) -> list[float]:
    return [k[0], k[1], k[2], 0.0, k[3], k[4], k[5], 0.0, k[6], k[7], k[8], 0.0]


@dataclass(frozen=True)
class Located:
    """Where pixels are, from their depth: metres along Z (H, W), NaN = unknown, and the camera.
    Positions are in metres in the optical frame."""

    meters: npt.NDArray[np.float32]
    camera: Intrinsics

    @cached_property
    def points(self) -> npt.NDArray[np.float32]:
        """Of every pixel, (H, W, 3), NaN = unknown."""
        return depth_to_points(self.meters, self.camera)

    def at(self, x: float, y: float) -> npt.NDArray[np.float32] | None:
        """The position at a pixel (x, y); None where it is unknown or outside."""
        row, column = round(y), round(x)
        height, width = self.meters.shape
        if not (0 <= row < height and 0 <= column < width):
            return None
        depth = self.meters[row, column]
        return self._position(column, row, depth) if np.isfinite(depth) else None

    def of_instance(
        self, ids: npt.NDArray[np.uint16], item: Instance
    ) -> npt.NDArray[np.float32] | None:
        """The median position of an instance of `ids` (H, W), taken from about a thousand of its
        box's pixels; None if none is known there."""
        left, top, width, height = item.box
        for step in (max(1, int(np.sqrt(width * height / ENOUGH))), 1):  # a thin one needs all
            part = np.s_[top : top + height : step, left : left + width : step]
            depth = self.meters[part]
            known = (ids[part] == item.id) & np.isfinite(depth)
            y, x = np.nonzero(known)
            if len(x):
                found = self._position(left + step * x, top + step * y, depth[known])
                low, high = (len(x) - 1) // 2, len(x) // 2
                found.partition((low, high), axis=-1)  # np.median takes twice as long
                return np.asarray((found[:, low] + found[:, high]) / 2, np.float32)
        return None

    def _position(self, x: Any, y: Any, depth: Any) -> npt.NDArray[np.float32]:
        across = (x - self.camera.cx) / self.camera.fx * depth
        down = (y - self.camera.cy) / self.camera.fy * depth
        return np.stack([across, down, depth]).astype(np.float32)
