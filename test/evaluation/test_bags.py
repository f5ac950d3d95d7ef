# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from diception_ros.evaluation.bags import count_messages, image_array, read_messages


def image(values, encoding, *, padding=0, big=0):
    height, width = values.shape[:2]
    rows = np.ascontiguousarray(values).view(np.uint8).reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAA)
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=big,
        step=padded.shape[1],
        data=padded.reshape(-1),
    )


@pytest.mark.parametrize(
    ("encoding", "dtype", "shape"),
    [
        ("rgb8", "<u1", (3, 4, 3)),
        ("mono8", "<u1", (3, 4)),
        ("mono16", "<u2", (3, 4)),
        ("32FC1", "<f4", (3, 4)),
        ("32FC3", "<f4", (3, 4, 3)),
    ],
)
@pytest.mark.parametrize("padding", [0, 5])
def test_images_come_back_as_they_were(encoding, dtype, shape, padding):
    values = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
    np.testing.assert_array_equal(image_array(image(values, encoding, padding=padding)), values)


def test_big_endian_images():
    values = np.array([[1, 258]], ">u2")
    np.testing.assert_array_equal(image_array(image(values, "mono16", big=1)), [[1, 258]])


def test_bad_images_say_why():
    broken = image(np.zeros((2, 2), np.uint8), "mono8")
    broken.data = broken.data[:3]
    with pytest.raises(ValueError, match="2x2 'mono8' with step 2 needs 4 bytes, got 3"):
        image_array(broken)
    with pytest.raises(ValueError, match="image encoding 'yuyv': expected one of rgb8"):
        image_array(image(np.zeros((2, 2), np.uint8), "yuyv"))


def test_messages_come_with_stamp_and_arrival(tmp_path):
    types = get_typestore(Stores.ROS2_JAZZY)
    header_type = types.types["std_msgs/msg/Header"]
    time_type = types.types["builtin_interfaces/msg/Time"]
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, kind in (("/a", "sensor_msgs/msg/CameraInfo"), ("/b", "std_msgs/msg/String")):
            connection = writer.add_connection(topic, kind, typestore=types)
            if topic == "/b":
                message = types.types[kind](data="no header")
            else:
                message = _camera_info(types, header_type(time_type(2, 5), "frame"))
            writer.write(connection, 7_000_000_000, types.serialize_cdr(message, kind))
    assert count_messages(tmp_path / "bag") == {"/a": 1, "/b": 1}
    (only,) = read_messages(tmp_path / "bag")
    assert (only.topic, only.stamp, only.received) == ("/a", 2_000_000_005, 7_000_000_000)
    assert list(read_messages(tmp_path / "bag", {"/absent"})) == []


def test_what_is_no_bag_is_named(tmp_path):
    with pytest.raises(ValueError, match="absent cannot be read as a bag"):
        list(read_messages(tmp_path / "absent"))
    with pytest.raises(ValueError, match="cannot be read as a bag"):
        count_messages(tmp_path / "absent")


def _camera_info(types, header):
    roi = types.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    nine, twelve = np.zeros(9), np.zeros(12)
    return types.types["sensor_msgs/msg/CameraInfo"](
        header, 3, 4, "plumb_bob", np.zeros(5), nine, nine, twelve, 0, 0, roi
    )
