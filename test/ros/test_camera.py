# SPDX-License-Identifier: Apache-2.0
"""Camera infos: which one, at which size, and positions."""

from __future__ import annotations

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from std_msgs.msg import Header

from diception_ros.geometry import Intrinsics
from diception_ros.ros.camera import (
    KEPT,
    CameraInfos,
    Located,
    intrinsics,
    is_bent,
    misfit,
    resized,
    sibling_topic,
)
from diception_ros.tasks import Instance


def header(seconds, nanoseconds=0):
    found = Header(frame_id="optical")
    found.stamp.sec, found.stamp.nanosec = seconds, nanoseconds
    return found


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        ("/image", "/camera_info"),
        ("/front/image_raw", "/front/camera_info"),
        ("/a/b/image", "/a/b/camera_info"),
    ],
)
def test_the_sibling_lies_beside_the_image(image, wanted):
    assert sibling_topic(image) == wanted


def test_the_info_of_the_same_stamp_wins_over_the_latest():
    infos = CameraInfos()
    assert infos.find(header(1)) is None
    for seconds in (1, 2, 3):
        infos.add(CameraInfo(header=header(seconds), width=seconds))
    assert infos.find(header(2)).width == 2
    assert infos.find(header(9)).width == 3
    infos.clear()
    assert infos.find(header(2)).width == 3


def test_only_so_many_are_kept():
    infos = CameraInfos()
    for seconds in range(KEPT + 2):
        infos.add(CameraInfo(header=header(seconds), width=seconds))
    assert infos.find(header(0)).width == KEPT + 1
    assert infos.find(header(2)).width == 2


def test_an_info_of_the_right_size_is_only_restamped(info):
    found = resized(info, header(5), 32, 24)
    assert found.header == header(5)
    assert (list(found.k), list(found.p)) == (list(info.k), list(info.p))
    assert info.header == Header()


def test_halving_keeps_the_rays(info):
    """A pixel's ray through the rescaled camera is the ray of the same place in the full image."""
    full = intrinsics(info, 32, 24)
    half = intrinsics(resized(info, header(1), 16, 12), 16, 12)
    # The centre of half-size pixel 3 lies between the full-size pixels 6 and 7.
    assert (3 - half.cx) / half.fx == pytest.approx((6.5 - full.cx) / full.fx)
    assert (3 - half.cy) / half.fy == pytest.approx((6.5 - full.cy) / full.fy)


def test_binning_and_region_are_resolved(info):
    info.binning_x = info.binning_y = 2
    info.roi = RegionOfInterest(x_offset=8, y_offset=4, width=16, height=8)
    same = resized(info, header(1), 8, 4)  # what this info describes
    assert (same.binning_x, same.width) == (2, 32)
    found = resized(info, header(1), 16, 8)
    assert (found.width, found.height, found.binning_x, found.roi.width) == (16, 8, 0, 0)
    assert found.k[0] == pytest.approx(30.0)
    assert found.k[2] == pytest.approx(15.5 - 8)
    assert intrinsics(info, 16, 8).cx == pytest.approx(found.p[2])


@pytest.mark.parametrize(
    ("width", "height", "fits"),
    [(8, 4, True), (16, 8, True), (5, 3, True), (8, 6, False), (40, 30, False), (8, 40, False)],
)
def test_other_proportions_than_the_described_do_not_fit(info, width, height, fits):
    info.binning_x = info.binning_y = 2
    info.roi = RegionOfInterest(x_offset=8, y_offset=4, width=16, height=8)
    assert (misfit(info, width, height) == "") == fits


def test_k_serves_where_p_is_empty(info):
    info.p = [0.0] * 12
    assert intrinsics(info, 32, 24).fx == 30.0


def test_a_zero_focal_length_is_named():
    with pytest.raises(ValueError, match=r"focal length is zero \(fx 0, fy 0\)"):
        intrinsics(CameraInfo(width=32, height=24), 32, 24)


def test_an_info_without_a_size_is_named(info):
    info.width = 0
    with pytest.raises(ValueError, match="camera info has no size"):
        resized(info, header(1), 32, 24)
    with pytest.raises(ValueError, match="camera info has no size"):
        intrinsics(info, 32, 24)


@pytest.mark.parametrize(
    ("d", "topic", "bent"),
    [
        ([], "/camera/image_raw", False),
        ([0.0] * 5, "/camera/image_raw", False),
        ([-0.3, 0.1, 0.0, 0.0, 0.0], "/camera/image_raw", True),
        ([-0.3, 0.1, 0.0, 0.0], "/camera/image_raw/compressed", True),
        ([-0.3, 0.1, 0.0, 0.0, 0.0], "/camera/image_rect_color", False),
        ([-0.3, 0.1, 0.0, 0.0, 0.0], "/camera/image_rect/compressed", False),
        ([-0.3, 0.1, 0.0, 0.0, 0.0], "/rectified/image", False),
        ([-0.3, 0.1, 0.0, 0.0, 0.0], "/direct/image_raw", True),
    ],
)
def test_distorted_images_are_told_by_their_info_and_name(d, topic, bent):
    assert is_bent(CameraInfo(d=d), topic) == bent


def test_a_distorted_image_is_named_once_and_answered(peer, image_of, picture, info):
    """A hint, not a fault: the node is ready again though it stays so."""
    assert peer.change("deactivate") and peer.change("activate")
    info.d, topic = [-0.3, 0.1, 0.0, 0.0, 0.0], {"~/depth/image": Image}
    said = ("/robot/camera/camera_info", "the lens is distorted", "/robot/camera/image seems not")
    before = len(peer.log.having(*said))
    peer.ask(image_of(picture), topic, info)
    peer.wait(lambda: len(peer.log.having(*said)) == before + 1)
    peer.until_health("degraded", "the lens is distorted")
    peer.hear("~/depth/image", Image)
    peer.wait(lambda: peer.show(image_of(picture), info) and peer.health()[0] == "ready")
    assert len(peer.log.having(*said)) == before + 1


def test_positions_are_known_only_where_depth_is():
    camera = Intrinsics(fx=2.0, fy=4.0, cx=1.0, cy=0.5, width=3, height=2)
    located = Located(np.array([[1, 2, np.nan], [4, 5, 6]], np.float32), camera)
    np.testing.assert_allclose(located.at(1.2, 0.0), [0, -0.25, 2])
    np.testing.assert_allclose(located.at(1.2, 0.0), located.points[0, 1])
    assert located.at(2, 0) is None
    assert located.at(3, 0) is None
    ids = np.array([[7, 7, 8], [7, 7, 7]], np.uint16)
    assert located.of_instance(ids, Instance(7, 1.0, (0, 0, 3, 2), 5, (1, 1)))[2] == 4
    assert located.of_instance(ids, Instance(8, 1.0, (2, 0, 1, 1), 1, (2, 0))) is None


def test_the_position_of_a_large_region_is_its_median_though_few_pixels_are_looked_at():
    camera = Intrinsics(fx=500.0, fy=500.0, cx=319.5, cy=239.5, width=640, height=480)
    meters = np.random.default_rng(0).uniform(1, 3, (480, 640)).astype(np.float32)
    located = Located(meters, camera)
    ids = np.full((480, 640), 3, np.uint16)
    item = Instance(3, 1.0, (200, 100, 400, 300), 300 * 400, (400, 250))
    found = located.of_instance(ids, item)
    np.testing.assert_allclose(found, np.median(located.points[100:400, 200:600], (0, 1)), atol=0.1)
    thin = np.zeros_like(ids)
    thin[:, 401] = 3
    found = located.of_instance(thin, item)
    np.testing.assert_allclose(found, np.median(located.points[100:400, 401], 0), rtol=1e-5)
