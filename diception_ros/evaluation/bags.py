# SPDX-License-Identifier: Apache-2.0
"""Bags without ROS: messages by the stamp of the image they answer."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.highlevel import AnyReader, AnyReaderError

from diception_ros.evaluation.offline.definitions import typestore

ENCODINGS = {
    "rgb8": ("u1", 3),
    "mono8": ("u1", 1),
    "mono16": ("u2", 1),
    "32FC1": ("f4", 1),
    "32FC3": ("f4", 3),
}


@dataclass(frozen=True)
class Recorded:
    """One message. stamp: of its header, received: by the recorder; both in nanoseconds."""

    topic: str
    stamp: int
    received: int
    message: Any


def read_messages(bag: Path, topics: Collection[str] | None = None) -> Iterator[Recorded]:
    """The messages that have a header, in the order of recording; None means every topic.
    ValueError if the folder is no bag.
    """
    try:
        with AnyReader([bag], default_typestore=typestore()) as reader:
            chosen = [c for c in reader.connections if topics is None or c.topic in topics]
            # rosbags takes an empty choice for no choice.
            for connection, received, data in reader.messages(chosen) if chosen else ():
                message = reader.deserialize(data, connection.msgtype)
                header = getattr(message, "header", None)
                if header is not None:
                    stamp = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
                    yield Recorded(connection.topic, stamp, received, message)
    except (AnyReaderError, FileNotFoundError) as error:
        raise ValueError(f"{bag} cannot be read as a bag: {error}") from error


def count_messages(bag: Path) -> dict[str, int]:
    """Messages per topic, from the bag's index. ValueError if the folder is no bag."""
    try:
        with AnyReader([bag], default_typestore=typestore()) as reader:
            return {c.topic: c.msgcount for c in sorted(reader.connections, key=lambda c: c.topic)}
    except (AnyReaderError, FileNotFoundError) as error:
        raise ValueError(f"{bag} cannot be read as a bag: {error}") from error


def image_array(message: Any) -> npt.NDArray[Any]:
    """sensor_msgs/Image -> (H, W) or (H, W, 3) of its own type, rows unpadded. ValueError for an
    encoding that no output of this package has, or too little data.
    """
    if message.encoding not in ENCODINGS:
        raise ValueError(
            f"image encoding '{message.encoding}': expected one of {', '.join(ENCODINGS)}"
        )
    code, channels = ENCODINGS[message.encoding]
    dtype = np.dtype(code).newbyteorder(">" if message.is_bigendian else "<")
    height, width, row = (
        message.height,
        message.width,
        message.width * channels * dtype.itemsize,
    )
    data = np.frombuffer(message.data, np.uint8)
    if message.step < row or data.size < height * message.step:
        raise ValueError(
            f"image {width}x{height} '{message.encoding}' with step {message.step} needs "
            f"{height * max(message.step, row)} bytes, got {data.size}"
        )
    rows = data[: height * message.step].reshape(height, message.step)[:, :row]
    values: npt.NDArray[Any] = (
        np.ascontiguousarray(rows).view(dtype).reshape(height, width, channels)
    )
    return values.reshape(height, width) if channels == 1 else values


def answer_array(message: Any) -> npt.NDArray[Any]:
    """An image as it is, a KeypointArray as (N, 2) float32 pixels (x, y)."""
    if hasattr(message, "keypoints"):
        points = [(point.x, point.y) for point in message.keypoints]
        return np.array(points, np.float32).reshape(-1, 2)
    return image_array(message)
