# SPDX-License-Identifier: Apache-2.0
"""Which of a bag's topics colour a map, and that one bad message does not end it."""

import cv2
import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from diception_ros.evaluation.depth_bags import find_topics, read_depth, read_transforms
from diception_ros.evaluation.views import view_of

TYPES = get_typestore(Stores.ROS2_JAZZY).types
RGB = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
DEPTH = np.full((4, 6), 2000, np.uint16)
ALIGNED, COLOUR = "/camera/aligned_depth_to_color/image_raw", "/camera/color/image_raw"


def packed(made, stamp, values, name, lead=b""):
    """A compressed image; lead: what stands before the PNG."""
    png = lead + cv2.imencode(".png", values)[1].tobytes()
    header = made.image(stamp, RGB, "rgb8").header
    kind = "sensor_msgs/msg/CompressedImage"
    return TYPES[kind](header, name, np.frombuffer(png, np.uint8))


def camera(made, stamp, topic=ALIGNED):
    """A depth image of 16UC1 with its camera info."""
    info = f"{topic.rpartition('/')[0]}/camera_info"
    return [
        (topic, stamp, made.image(stamp, DEPTH, "16UC1")),
        (info, stamp, made.camera_info(stamp, (5, 5, 3, 2), 4, 6)),
    ]


@pytest.mark.parametrize("raw", [True, False])
def test_compressed_depth_is_no_picture(made, tmp_path, raw):
    items = [
        *camera(made, 5),
        (f"{ALIGNED}/compressed", 5, packed(made, 5, DEPTH, "16UC1; png compressed ")),
        (
            f"{ALIGNED}/compressedDepth",
            5,
            packed(made, 5, DEPTH, "16UC1; compressedDepth png", bytes(12)),
        ),
        (f"{COLOUR}/compressed", 5, packed(made, 5, RGB[..., ::-1], "rgb8; png compressed bgr8")),
        ("/camera/infra", 5, made.image(5, RGB[..., 0], "mono8")),
        *[(COLOUR, 5, made.image(5, RGB, "rgb8"))] * raw,
    ]
    bag = made.bag(tmp_path / "bag", items)
    topics = find_topics(bag)
    assert (topics.depth, topics.picture) == (ALIGNED, COLOUR if raw else f"{COLOUR}/compressed")
    (frame,) = read_depth(bag, topics)
    np.testing.assert_array_equal(frame.rgb, RGB)


def test_a_picture_of_depths_own_stamps_comes_before_one_in_colour(made, tmp_path):
    items = [
        *camera(made, 5),
        (COLOUR, 6, made.image(6, RGB, "rgb8")),
        ("/camera/infra", 5, made.image(5, RGB[..., 0], "mono8")),
    ]
    assert find_topics(made.bag(tmp_path / "bag", items)).picture == "/camera/infra"


@pytest.mark.parametrize(
    ("encoding", "values", "expected"),
    [
        ("mono8", RGB[..., 0], RGB[..., [0, 0, 0]]),
        ("8UC1", RGB[..., 0], RGB[..., [0, 0, 0]]),
        ("8UC3", RGB, RGB),
        ("rgba8", np.dstack([RGB, RGB[..., 0]]), RGB),
        ("bgra8", np.dstack([RGB[..., ::-1], RGB[..., 0]]), RGB),
        ("bayer_rggb8", np.full((4, 6), 90, np.uint8), np.full((4, 6, 3), 90)),
    ],
)
def test_whatever_becomes_a_picture_colours_a_map(made, tmp_path, encoding, values, expected):
    items = [*camera(made, 5), ("/camera/image", 5, made.image(5, values, encoding))]
    bag = made.bag(tmp_path / "bag", items)
    (frame,) = read_depth(bag, find_topics(bag))
    np.testing.assert_array_equal(frame.rgb, expected)


def test_what_was_made_of_a_picture_is_none(made, tmp_path):
    grey, twin = made.image(5, RGB[..., 0], "mono8"), made.image(5, RGB, "rgb8")
    answers = [("depth/confidence", grey), ("depth/image_color", twin), ("semantic/mask", grey)]
    answers += [("entity/image_color", twin), ("semantic/confidence", grey)]
    items = [(f"/diception/{name}", 5, message) for name, message in answers]
    items += camera(made, 5, "/diception/depth/image")
    assert find_topics(made.bag(tmp_path / "bag", items)).picture is None
    # A camera may be called like a twin, but it has an info of its own.
    info = made.camera_info(5, (5, 5, 3, 2), 4, 6)
    items += [("/camera/rgb/image_color", 5, twin), ("/camera/rgb/camera_info", 5, info)]
    found = find_topics(made.bag(tmp_path / "kinect", items))
    assert found.picture == "/camera/rgb/image_color"


def test_a_region_of_the_sensor_has_its_own_principal_point(made, tmp_path):
    image, (topic, stamp, info) = camera(made, 5)
    info.width, info.height = 12, 8
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 4, 3, 6, 4
    bag = made.bag(tmp_path / "bag", [image, (topic, stamp, info)])
    (frame,) = read_depth(bag, find_topics(bag))
    found = frame.camera
    assert (found.fx, found.fy, found.cx, found.cy) == (5, 5, 3 - 4, 2 - 3)
    assert view_of(topic, info, False) == found


def test_a_slow_nodes_depth_finds_the_picture_that_came_long_before(made, tmp_path):
    items = [("/camera/image", at, made.image(at, RGB, "rgb8")) for at in range(5, 105)]
    late = [(topic, 200, message) for topic, _, message in camera(made, 5)]
    bag = made.bag(tmp_path / "bag", [*items, *late])
    (frame,) = read_depth(bag, find_topics(bag))
    np.testing.assert_array_equal(frame.rgb, RGB)


def test_what_is_no_transform_is_named_once_and_the_rest_holds(made, tmp_path, caplog):
    good = made.transform(5)
    wrong = [made.transform(5, child=name) for name in ("lost", "flat", "map")]
    wrong[0].transforms[0].transform.translation.x = np.nan
    wrong[1].transforms[0].transform.rotation.w = 0.0
    good.transforms[:0] = [one.transforms[0] for one in wrong]
    bag = made.bag(tmp_path / "bag", [*camera(made, 5), ("/tf", 5, good), ("/tf", 6, good)])
    tree = read_transforms(bag, find_topics(bag))
    assert tree.pose("map", "camera_optical_frame", 5) is not None
    assert [record.message.partition(": expected")[0] for record in caplog.records] == [
        f"{bag}: transform of 'lost' in 'map'",
        f"{bag}: transform of 'flat' in 'map'",
        f"{bag}: transform of 'map' in itself",
    ]
