# SPDX-License-Identifier: Apache-2.0
"""Small bags of every kind, written with rosbags alone, and what a run made of them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

CAMERA, INFO, DEPTH = "/cam/image", "/cam/camera_info", "/depth/image"
START = 1_700_000_000_000_000_000
PERIOD = 100_000_000
SIZE = (24, 32)


@dataclass(frozen=True)
class Line:
    """One message to record: its topic, type, time of reception in ns and the message."""

    topic: str
    msgtype: str
    received: int
    message: Any


class Types:
    """Makes messages of ROS 2 or ROS 1."""

    def __init__(self, ros1: bool = False) -> None:
        self.ros1 = ros1
        self.store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_JAZZY)

    def __call__(self, name: str, *fields: Any) -> Any:
        return self.store.types[name](*fields)

    def header(self, stamp: int, frame: str = "optical") -> Any:
        time = self("builtin_interfaces/msg/Time", stamp // 10**9, stamp % 10**9)
        return self("std_msgs/msg/Header", *([7] if self.ros1 else []), time, frame)

    def image(self, stamp: int, pixels: Any, encoding: str = "rgb8", data: Any = None) -> Any:
        height, width = pixels.shape[:2]
        flat = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
        step = flat.size // height
        return self(
            "sensor_msgs/msg/Image",
            self.header(stamp),
            height,
            width,
            encoding,
            0,
            step,
            flat if data is None else data,
        )

    def compressed(self, stamp: int, pixels: Any) -> Any:
        png = cv2.imencode(".png", pixels[..., ::-1])[1].reshape(-1)
        return self("sensor_msgs/msg/CompressedImage", self.header(stamp), "rgb8; png", png)

    def info(self, stamp: int, size: tuple[int, int] = SIZE, focal: float = 30.0) -> Any:
        height, width = size
        cx, cy = (width - 1) / 2, (height - 1) / 2
        k = np.array([focal, 0, cx, 0, focal, cy, 0, 0, 1], np.float64)
        p = np.array([focal, 0, cx, 0, 0, focal, cy, 0, 0, 0, 1, 0], np.float64)
        region = self("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False)
        none = np.zeros(0)
        return self(
            "sensor_msgs/msg/CameraInfo",
            self.header(stamp),
            height,
            width,
            "",
            none,
            k,
            np.eye(3).reshape(-1),
            p,
            0,
            0,
            region,
        )

    def cloud(self, stamp: int, points: Any, frame: str) -> Any:
        """(N, 3) float32 in metres."""
        fields = [
            self("sensor_msgs/msg/PointField", name, 4 * i, 7, 1) for i, name in enumerate("xyz")
        ]
        count, data = len(points), np.ascontiguousarray(points).reshape(-1).view(np.uint8)
        return self(
            "sensor_msgs/msg/PointCloud2",
            self.header(stamp, frame),
            1,
            count,
            fields,
            False,
            12,
            12 * count,
            data,
            True,
        )

    def transforms(
        self, parent: str, child: str, offset: Any, turn: Any, stamp: int = START
    ) -> Any:
        transform = self(
            "geometry_msgs/msg/Transform",
            self("geometry_msgs/msg/Vector3", *offset),
            self("geometry_msgs/msg/Quaternion", *turn),
        )
        stamped = "geometry_msgs/msg/TransformStamped"
        return self(
            "tf2_msgs/msg/TFMessage", [self(stamped, self.header(stamp, parent), child, transform)]
        )


def picture(number: int, size: tuple[int, int] = SIZE) -> Any:
    """A smooth picture, another one for each number."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    parts = (rows * 255 // size[0], columns * 255 // size[1], (number * 40) % 256 + 0 * rows)
    return np.stack(parts, 2).astype(np.uint8)


def stamp_of(number: int) -> int:
    return START + number * PERIOD


def camera_lines(types: Types, count: int, first: int = 0) -> list[Line]:
    """Images with their camera info, which comes 1 ms later under the same stamp."""
    lines = []
    for number in range(first, first + count):
        at = stamp_of(number)
        image = types.image(at, picture(number))
        lines.append(Line(CAMERA, "sensor_msgs/msg/Image", at + 5_000_000, image))
        info = types.info(at)
        lines.append(Line(INFO, "sensor_msgs/msg/CameraInfo", at + 6_000_000, info))
    return lines


def write(path: Path, lines: list[Line], kind: str = "mcap") -> Path:
    """kind: mcap, sqlite3 or ros1 (the path gets .bag)."""
    if kind == "ros1":
        path = path.with_suffix(".bag")
        store, writer = get_typestore(Stores.ROS1_NOETIC), Writer1(path)
    else:
        store = get_typestore(Stores.ROS2_JAZZY)
        writer = Writer(path, version=9, storage_plugin=StoragePlugin[kind.upper()])
    with writer:
        connections = {
            (line.topic, line.msgtype): writer.add_connection(
                line.topic, line.msgtype, typestore=store
            )
            for line in {(line.topic, line.msgtype): line for line in lines}.values()
        }
        for line in sorted(lines, key=lambda line: line.received):
            data = line.message
            if not isinstance(data, bytes):
                pack = store.serialize_ros1 if kind == "ros1" else store.serialize_cdr
                data = pack(line.message, line.msgtype)
            writer.write(connections[line.topic, line.msgtype], line.received, data)
    return path


def read(path: Path) -> dict[str, list[tuple[int, bytes]]]:
    """(received, serialized bytes) by topic, by rosbags' own reader."""
    found = defaultdict(list)
    with AnyReader([path]) as reader:
        for connection, received, data in reader.messages():
            found[connection.topic].append((received, bytes(data)))
    return dict(found)


def messages(path: Path) -> dict[str, list[Any]]:
    """Deserialized by the definitions that the bag itself holds."""
    found = defaultdict(list)
    with AnyReader([path]) as reader:
        for connection, _, data in reader.messages():
            found[connection.topic].append(reader.deserialize(data, connection.msgtype))
    return dict(found)
