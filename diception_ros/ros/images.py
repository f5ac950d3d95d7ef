# SPDX-License-Identifier: Apache-2.0
"""Image messages -> RGB arrays and metres. The only place that decides which library converts.

cv_bridge where it is installed (every ROS install) and works, otherwise rosbags-image. Sizes are
checked here first, because neither library says which topic sent a bad image.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Rgb = npt.NDArray[np.uint8]
Meters = npt.NDArray[np.float32]
Convert = Callable[[Any, str], Any]

ALIASES = {
    "8UC1": "mono8",
    "8UC3": "rgb8",
    "8UC4": "rgba8",
    "16UC1": "mono16",
    "16UC3": "rgb16",
    "uyvy": "yuv422",
    "yuyv": "yuv422_yuy2",
}
"""Names without a colour order are taken as cv_bridge takes them: channels stay where they are.
The two YUV 4:2:2 orders go by the names that every version of both libraries knows."""

PIXEL_BYTES = {
    **dict.fromkeys(("mono8", "nv12", "nv21"), 1),
    **dict.fromkeys(("yuv422", "yuv422_yuy2", "mono16"), 2),
    **dict.fromkeys(("rgb8", "bgr8"), 3),
    **dict.fromkeys(("rgba8", "bgra8"), 4),
    **dict.fromkeys(("rgb16", "bgr16"), 6),
    **dict.fromkeys(("rgba16", "bgra16"), 8),
    **{f"bayer_{order}8": 1 for order in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{order}16": 2 for order in ("rggb", "bggr", "gbrg", "grbg")},
}
"""Encodings that become rgb8 -> bytes of one pixel (of the luma plane for nv12 and nv21)."""

_TRIAL = """
import numpy
from types import SimpleNamespace
from cv_bridge import CvBridge
data = numpy.zeros(3, numpy.uint8)
pixel = SimpleNamespace(height=1, width=1, encoding="bgr8", is_bigendian=0, step=3, data=data)
CvBridge().imgmsg_to_cv2(pixel, "rgb8")
"""
"""cv_bridge loads its compiled half only when it converts."""

SUBSAMPLED = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}
"""Two planes: OpenCV takes them as one image of 3/2 the height; neither library knows that."""


@dataclass(frozen=True)
class Backend:
    """The library that converts, and how people call it."""

    name: str
    convert: Convert


@cache
def backend() -> Backend:
    """cv_bridge, or rosbags-image where it is missing or does not work, as one built for another
    numpy; decided once per process. ValueError where there is neither."""
    causes: list[str] = []
    for name, find in (("cv_bridge", _cv_bridge), ("rosbags-image", _rosbags)):
        try:
            convert = find()
        except Exception as error:  # a library for another numpy fails in many ways
            missing = getattr(error, "name", "") in ("cv_bridge", "rosbags", "rosbags.image")
            causes.append(f"{name} is not installed" if missing else f"{name}: {error}")
        else:
            return Backend(f"{name} ({causes[0]})" if causes else name, convert)
    raise ValueError(
        f"images cannot be converted: {', '.join(causes)}; apt install "
        "ros-$ROS_DISTRO-cv-bridge, or pip install rosbags-image"
    )


def to_rgb(message: Any, topic: str) -> Rgb:
    """sensor_msgs/Image or CompressedImage -> uint8 (H, W, 3) RGB.

    Rows may be padded and 16 bit values big-endian. ValueError names the topic and the cause:
    empty or truncated data, an encoding that is no colour image, a damaged compressed image.
    """
    try:
        if hasattr(message, "format"):
            return _decompress(message)
        return _convert(message)
    except ValueError as error:
        raise ValueError(f"{topic}: {error}") from error


def to_meters(message: Any, topic: str) -> Meters:
    """Depth image, 32FC1 metres or 16UC1 millimetres (REP-118), -> float32 (H, W), NaN = unknown.
    Zero, negative and infinite values are unknown. ValueError names the topic and the cause."""
    kinds = {"32FC1": ("f4", 1.0), "16UC1": ("u2", 0.001), "mono16": ("u2", 0.001)}
    try:
        if message.encoding not in kinds:
            raise ValueError(
                f"encoding '{message.encoding}' is no depth: expected 32FC1 (m) or 16UC1 (mm)"
            )
        code, unit = kinds[message.encoding]
        order = ">" if message.is_bigendian else "<"
        rows = packed_rows(message, np.dtype(code).itemsize, message.height)
        meters: Meters = rows.view(order + code).astype(np.float32)
        meters *= np.float32(unit)
    except ValueError as error:
        raise ValueError(f"{topic}: {error}") from error
    meters[~(np.isfinite(meters) & (meters > 0))] = np.nan
    return meters


def packed_rows(message: Any, pixel_bytes: int, rows: int) -> npt.NDArray[np.uint8]:
    """The image's bytes without row padding, (rows, width * pixel_bytes), contiguous.
    ValueError for an empty image, a step too small or truncated data."""
    width, step, size = message.width, message.step, len(message.data)
    if width == 0 or rows == 0 or size == 0:
        raise ValueError(f"empty image: {width}x{message.height} with {size} bytes of data")
    row = width * pixel_bytes
    step = step or row  # some drivers leave it at 0
    if step < row:
        raise ValueError(
            f"step {step} is less than one row: {width} pixels of '{message.encoding}' are {row} "
            "bytes"
        )
    needed = step * (rows - 1) + row
    if size < needed:
        raise ValueError(
            f"truncated image: {width}x{message.height} '{message.encoding}' with step {step} "
            f"needs {needed} bytes, got {size}"
        )
    data = np.frombuffer(message.data, np.uint8)
    if step == row:
        return data[:needed].reshape(rows, row)
    padded = np.lib.stride_tricks.as_strided(data, (rows, row), (step, 1), writeable=False)
    return np.ascontiguousarray(padded)


def _convert(message: Any) -> Rgb:
    encoding = ALIASES.get(message.encoding, message.encoding)
    if encoding not in PIXEL_BYTES:
        raise ValueError(
            f"encoding '{message.encoding}' does not become rgb8: expected one of "
            f"{', '.join([*PIXEL_BYTES, *ALIASES])}"
        )
    planes = message.height * 3 // 2 if encoding in SUBSAMPLED else message.height
    rows = packed_rows(message, PIXEL_BYTES[encoding], planes)
    try:
        if encoding in SUBSAMPLED:
            rgb = cv2.cvtColor(rows, SUBSAMPLED[encoding])
        else:
            rgb = backend().convert(_tight(message, encoding, rows), "rgb8")
    except (cv2.error, RuntimeError, TypeError) as error:
        raise ValueError(f"{message.encoding} to rgb8 failed: {error}") from error
    return np.ascontiguousarray(rgb, dtype=np.uint8)


def _tight(message: Any, encoding: str, rows: npt.NDArray[np.uint8]) -> Any:
    """The same image without padding and in the machine's byte order: rosbags-image ignores the
    padding, and cv_bridge copies less."""
    wide = encoding.endswith("16")
    if wide and bool(message.is_bigendian) != (sys.byteorder == "big"):
        rows = rows.view(np.uint16).byteswap().view(np.uint8)
    return SimpleNamespace(
        height=message.height,
        width=message.width,
        encoding=encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=rows.shape[1],
        data=rows.reshape(-1),
    )


def _cv_bridge() -> Convert:
    if importlib.util.find_spec("cv_bridge") is None:
        raise ModuleNotFoundError("No module named 'cv_bridge'", name="cv_bridge")
    if int(np.__version__.split(".")[0]) > 1:
        _try_apart()
    bridge = importlib.import_module("cv_bridge").CvBridge()
    return lambda image, encoding: bridge.imgmsg_to_cv2(image, encoding)


def _try_apart() -> None:
    """ImportError if cv_bridge cannot convert here. Ubuntu 24.04's was built for numpy 1: with a
    newer one it ends the process that converts, so that another process has to try."""
    command = [sys.executable, "-c", _TRIAL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode < 0:
        raise ImportError(f"crashes with numpy {np.__version__}, pip install 'numpy<2'")
    if done.returncode:
        raise ImportError(done.stderr.strip().rpartition("\n")[2])


def _rosbags() -> Convert:
    convert: Convert = importlib.import_module("rosbags.image").message_to_cvimage
    return convert


def _decompress(message: Any) -> Rgb:
    if len(message.data) == 0:
        raise ValueError("empty compressed image")
    if "compressedDepth" in message.format:
        raise ValueError(f"format '{message.format}' is a depth image, expected JPEG or PNG colour")
    # The orientation tag is the photographer's, the camera info belongs to the stored pixels.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    bgr = cv2.imdecode(np.frombuffer(message.data, np.uint8), flags)
    if bgr is None:
        raise ValueError(
            f"damaged compressed image: {len(message.data)} bytes, format '{message.format}'"
        )
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
