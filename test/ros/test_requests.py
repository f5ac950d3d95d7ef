# SPDX-License-Identifier: Apache-2.0
"""Where a click in space is in the image."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_msgs.msg import PointStamped
from sensor_msgs.msg import CameraInfo
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


def test_a_place_that_cannot_be_seen_is_refused(info):
    with pytest.raises(ValueError, match=r"not before the camera: z is -1.000 m in optical"):
        seen(click("optical", 0.0, 0.0, -1.0), FRAME, info, no_pose)
    with pytest.raises(ValueError, match="needs the camera info, and none has come"):
        seen(click("optical", 0.0, 0.0, 1.0), FRAME, None, no_pose)
    with pytest.raises(ValueError, match="no transform from 'map' to 'optical'"):
        seen(click("map", 0.0, 0.0, 1.0), FRAME, info, no_pose)
