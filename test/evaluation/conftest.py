# SPDX-License-Identifier: Apache-2.0
"""Bags of a moving camera with exact depth and poses, written without ROS."""

from types import SimpleNamespace

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

TYPES = get_typestore(Stores.ROS2_JAZZY)
DEPTH, INFO = "/diception/depth/image", "/diception/depth/camera_info"
PICTURE, TF, CLOUD = "/camera/image", "/tf", "/diception/points"
FRAME = "camera_optical_frame"
START = 5_000_000_000
STEP = 100_000_000


def make(kind, *values):
    return TYPES.types[kind](*values)


def header(stamp, frame_id=FRAME):
    time = make("builtin_interfaces/msg/Time", *divmod(stamp, 10**9))
    return make("std_msgs/msg/Header", time, frame_id)


def image(stamp, values, encoding, padding=0, frame_id=FRAME):
    height, width = values.shape[:2]
    rows = np.ascontiguousarray(values).view(np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    return make(
        "sensor_msgs/msg/Image",
        header(stamp, frame_id),
        height,
        width,
        encoding,
        0,
        rows.shape[1],
        rows.reshape(-1),
    )


def camera_info(stamp, intrinsics, height, width):
    fx, fy, cx, cy = intrinsics
    return make(
        "sensor_msgs/msg/CameraInfo",
        header(stamp),
        height,
        width,
        "plumb_bob",
        np.zeros(5),
        np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1], np.float64),
        np.eye(3).reshape(-1),
        np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0], np.float64),
        0,
        0,
        make("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False),
    )


def transform(stamp, camera, parent="map", child=FRAME):
    turn = Rotation.from_matrix(camera.rotation).as_quat()
    pose = make(
        "geometry_msgs/msg/Transform",
        make("geometry_msgs/msg/Vector3", *(float(v) for v in camera.position)),
        make("geometry_msgs/msg/Quaternion", *(float(v) for v in turn)),
    )
    stamped = make("geometry_msgs/msg/TransformStamped", header(stamp, parent), child, pose)
    return make("tf2_msgs/msg/TFMessage", [stamped])


def cloud(stamp, points, colours=None, labels=None):
    """points (N, 3), colours (N, 3), labels (N,) -> PointCloud2, fields as the node orders them."""
    parts = [("x", points[:, 0], 7), ("y", points[:, 1], 7), ("z", points[:, 2], 7)]
    if colours is not None:
        red, green, blue = colours.astype(np.uint32).T
        parts.append(("rgb", (red << 16 | green << 8 | blue).view(np.float32), 7))
    if labels is not None:
        parts.append(("label", labels.astype(np.uint32).view(np.float32), 6))
    data = np.stack([values for _, values, _ in parts], axis=1).astype(np.float32)
    fields = [
        make("sensor_msgs/msg/PointField", name, 4 * i, kind, 1)
        for i, (name, _, kind) in enumerate(parts)
    ]
    step = 4 * len(parts)
    return make(
        "sensor_msgs/msg/PointCloud2",
        header(stamp),
        1,
        len(points),
        fields,
        False,
        step,
        step * len(points),
        data.view(np.uint8).reshape(-1),
        False,
    )


def write_bag(folder, items):
    """items: (topic, stamp, message) in order."""
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {}
        for topic, stamp, message in items:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            writer.write(connections[topic], stamp, TYPES.serialize_cdr(message, kind))
    return folder


@pytest.fixture(scope="session")
def moving():
    """(Frame, Camera) pairs of a camera that moves through a rendered room."""
    from diception_ros.training.scenes import sequence

    return list(sequence(7, 4, 60, 80))


@pytest.fixture
def moving_bag(moving, tmp_path):
    """Writes the sequence; leave: topics to leave out, encoding: of the depth, cut: topics of which
    every image but the last lacks half of its data."""

    def write(leave=(), encoding="32FC1", name="bag", cut=()):
        items = []
        for number, (frame, camera) in enumerate(moving):
            stamp = START + number * STEP
            depth = frame.depth.astype(np.float32)
            if encoding == "16UC1":
                depth = np.round(np.nan_to_num(depth) * 1000).astype(np.uint16)
            height, width = depth.shape
            items += [
                (DEPTH, stamp, image(stamp, depth, encoding, padding=8)),
                (INFO, stamp, camera_info(stamp, frame.intrinsics, height, width)),
                (TF, stamp, transform(stamp, camera)),
                (PICTURE, stamp, image(stamp, frame.rgb, "rgb8")),
            ]
        for topic, stamp, message in items:
            if topic in cut and stamp < START + (len(moving) - 1) * STEP:
                message.data = message.data[: len(message.data) // 2]
        return write_bag(tmp_path / name, [item for item in items if item[0] not in leave])

    return write


@pytest.fixture(scope="session")
def made():
    """Makers of messages: image(stamp, values, encoding, ...), cloud(stamp, points, ...),
    camera_info(stamp, intrinsics, height, width), transform(stamp, child=...), and of a bag of
    them: bag(folder, (topic, stamp, message)...)."""
    still = SimpleNamespace(position=np.zeros(3), rotation=np.eye(3))

    def placed(stamp, **names):
        return transform(stamp, still, **names)

    return SimpleNamespace(
        image=image, cloud=cloud, camera_info=camera_info, transform=placed, bag=write_bag
    )
