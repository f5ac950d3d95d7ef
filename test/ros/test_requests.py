# SPDX-License-Identifier: Apache-2.0
"""What is asked about points: where a click in space is, and points that cannot be asked."""

from __future__ import annotations

import numpy as np
import pytest
from diception_ros.msg import FrameReport, PointPrompts
from geometry_msgs.msg import PointStamped
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from diception_ros.ros.answers import Frame
from diception_ros.ros.incoming import Prompts
from diception_ros.ros.requests import seen
from diception_ros.ros.transforms import no_pose

FRAME = Frame(Header(frame_id="optical"), np.zeros((12, 16, 3), np.uint8), (32, 24))
"""Published at half the size of the input."""


@pytest.fixture
def info():
    found = CameraInfo(width=32, height=24)
    found.p = [40.0, 0.0, 15.5, 0.0, 0.0, 40.0, 11.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    return found


def click(frame_id, *place):
    header = PointStamped().header
    header.frame_id = frame_id
    return Prompts("/clicked_point", (), (1,), header=header, place=place)


def test_a_place_before_the_camera_is_a_pixel_of_the_input_image(info):
    found = seen(click("optical", 0.5, -0.25, 2.0), FRAME, info, no_pose)
    assert found.points == (pytest.approx((25.5, 6.5)),)


def test_a_place_in_another_frame_goes_through_tf_at_the_images_time(info):
    """The robot looks along x of its base, the camera 1 m above it: REP 103's two frames."""
    asked = []

    def find_pose(target, source, stamp):
        asked.append((target, source, stamp))
        return 0.0, 1.0, 0.0, 0.5, -0.5, 0.5, 0.5

    found = seen(click("base", 4.0, -1.0, 1.5), FRAME, info, find_pose)
    assert asked == [("optical", "base", FRAME.header.stamp)]
    assert found.points == (pytest.approx((40 * 1.0 / 4 + 15.5, 40 * -0.5 / 4 + 11.5)),)


@pytest.mark.parametrize("place", [(0.0, 0.0, -1.0), (2.0, 0.0, 1.0), (0.0, -1.0, 2.0)])
def test_a_place_behind_or_beside_the_camera_is_not_in_view(info, place):
    assert seen(click("optical", *place), FRAME, info, no_pose) is None


def test_a_place_without_info_or_transform_is_refused(info):
    with pytest.raises(ValueError, match="needs the camera info, and none has come"):
        seen(click("optical", 0.0, 0.0, 1.0), FRAME, None, no_pose)
    with pytest.raises(ValueError, match="no transform from 'map' to 'optical'"):
        seen(click("map", 0.0, 0.0, 1.0), FRAME, info, no_pose)


ELSEWHERE = PointPrompts(x=[3.0], y=[3.0])
ELSEWHERE.header.frame_id = "base"


@pytest.mark.parametrize(
    ("topic", "message", "text"),
    [
        ("point_prompts", PointPrompts(x=[700.0], y=[10.0]), "(700, 10) lies outside the 32x24"),
        (
            "point_prompts",
            ELSEWHERE,
            "the points are for the frame 'base', but the images come in 'camera_optical_frame'",
        ),
    ],
    ids=["outside", "another frame"],
)
def test_points_that_cannot_be_asked_are_named_and_cost_nothing_else(
    peer, image_of, picture, info, topic, message, text
):
    """Their task fails alone: the frame's others are answered, and its report does not name it."""
    failed = peer.until_health("")["dropped: failed"]
    peer.hear("~/point/mask", Image)
    peer.publish(f"/robot/{topic}", message)
    report = peer.ask(
        image_of(picture),
        {"~/disparity_relative/image": Image, "~/frame_report": FrameReport},
        info,
        until=lambda answers: (
            answers["~/frame_report"].tasks == ["depth"]
            and peer.log.having(f"/robot/{topic}", text)
        ),
    )["~/frame_report"]
    assert report.batch == 1
    assert peer.until_health("degraded", text)["dropped: failed"] == failed
    assert peer.received["~/point/mask"] == []
    peer.publish("/robot/point_prompts", PointPrompts())


def test_a_click_in_space_that_is_not_in_view_is_no_fault(peer, image_of, picture, info):
    """Another camera on the topic may see it: this one says so once, and stays ready."""
    peer.wait(lambda: peer.show(image_of(picture)) and peer.health()[0] == "ready")
    peer.hear("~/point/mask", Image)
    behind = PointStamped()
    behind.header.frame_id = "camera_optical_frame"
    behind.point.z = -2.0
    peer.publish("/robot/clicked_point", behind)
    said = "/robot/clicked_point: the place is not in view of 'camera_optical_frame'"
    peer.wait(lambda: peer.show(image_of(picture), info) and peer.log.having("[INFO]", said))
    for _ in range(2):
        peer.show(image_of(picture), info)
        peer.until_health("ready")
    assert len(peer.log.having(said)) == 1
    assert peer.received["~/point/mask"] == []
    peer.publish("/robot/point_prompts", PointPrompts())


def test_points_for_another_node_on_the_same_topic_are_no_fault(peer, image_of, picture):
    """Two nodes of one camera each: whose frame it is not says so once, and stays ready."""
    peer.wait(lambda: peer.show(image_of(picture)) and peer.health()[0] == "ready")
    peer.hear("/robot/point_prompts", PointPrompts)  # as the other node does
    peer.hear("~/point/mask", Image)
    peer.wait(lambda: peer.node.count_subscribers("/robot/point_prompts") == 2)
    elsewhere = PointPrompts(x=[3.0], y=[3.0])
    elsewhere.header.frame_id = "other_node"
    said = ("[INFO]", "/robot/point_prompts: the points are for the frame 'other_node'")
    peer.publish("/robot/point_prompts", elsewhere)
    peer.wait(lambda: peer.show(image_of(picture)) and peer.log.having(*said))
    assert peer.received["~/point/mask"] == []
    for _ in range(2):
        peer.show(image_of(picture))
        peer.until_health("ready")
    assert len(peer.log.having("for the frame 'other_node'")) == 1
    peer.publish("/robot/point_prompts", PointPrompts())
