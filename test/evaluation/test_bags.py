# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

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


def test_a_damaged_message_costs_only_itself(tmp_path):
    types, kind = get_typestore(Stores.ROS2_JAZZY), "sensor_msgs/msg/CameraInfo"
    header = types.types["std_msgs/msg/Header"](
        types.types["builtin_interfaces/msg/Time"](2, 5), "frame"
    )
    data = bytes(types.serialize_cdr(_camera_info(types, header), kind))
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/a", kind, typestore=types)
        for at, part in enumerate((data, data[:50], data[:7], data), 7):
            writer.write(connection, at, part)
    found = list(read_messages(tmp_path / "bag"))
    assert [(one.stamp, one.received) for one in found] == [
        (2_000_000_005, 7),
        (2_000_000_005, 8),
        (9, 9),
        (2_000_000_005, 10),
    ]
    assert [found[number].message.height for number in (0, 3)] == [3, 3]
    for number, size in ((1, 50), (2, 7)):
        with pytest.raises(ValueError, match=f"damaged {kind} of {size} bytes"):
            _ = found[number].message


def test_an_unfinished_bag_is_read_and_said_to_be(tmp_path):
    types, kind = get_typestore(Stores.ROS2_JAZZY), "sensor_msgs/msg/CameraInfo"
    header = types.types["std_msgs/msg/Header"](
        types.types["builtin_interfaces/msg/Time"](2, 5), "frame"
    )
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/a", kind, typestore=types)
        writer.write(connection, 7, types.serialize_cdr(_camera_info(types, header), kind))
    (tmp_path / "bag" / "metadata.yaml").unlink()
    assert count_messages(tmp_path / "bag") == {"/a": 1}
    note, only = read_messages(tmp_path / "bag", {"/a"})
    assert (only.stamp, only.message.width) == (2_000_000_005, 4)
    with pytest.raises(ValueError, match="unfinished bag, read without its index"):
        _ = note.message


def test_types_are_what_the_bag_says_they_are(tmp_path):
    """Another version of this package may have recorded it."""
    kind, types = "diception_ros/msg/PointPrompts", get_typestore(Stores.ROS2_JAZZY)
    types.register(get_types_from_msg("std_msgs/Header header\nfloat32[] old\n", kind))
    time = types.types["builtin_interfaces/msg/Time"](3, 1)
    header = types.types["std_msgs/msg/Header"](time, "frame")
    message = types.types[kind](header, np.array([1, 2], np.float32))
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/p", kind, typestore=types)
        writer.write(connection, 7, types.serialize_cdr(message, kind))
    (only,) = read_messages(tmp_path / "bag")
    assert (only.stamp, list(only.message.old)) == (3_000_000_001, [1, 2])


def _camera_info(types, header):
    roi = types.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    nine, twelve = np.zeros(9), np.zeros(12)
    return types.types["sensor_msgs/msg/CameraInfo"](
        header, 3, 4, "plumb_bob", np.zeros(5), nine, nine, twelve, 0, 0, roi
    )
