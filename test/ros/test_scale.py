# SPDX-License-Identifier: Apache-2.0
"""Metres from every source, and the reasons when there are none."""

from __future__ import annotations

import re

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from diception_ros.geometry import Intrinsics
from diception_ros.ros.cloud import cloud_message
from diception_ros.ros.messages import image_message
from diception_ros.ros.parameters import GroundPlane, from_values
from diception_ros.ros.scale import (
    Reference,
    ScaleTracker,
    floor_meters,
    nearest,
    project,
    transform,
)

CAMERA = Intrinsics(fx=60.0, fy=60.0, cx=31.5, cy=23.5, width=64, height=48)
TRUTH = (0.8, 0.2)
"""1 / depth = 0.8 d + 0.2: from 1 m to 5 m."""


@pytest.fixture
def disparity():
    rows, columns = np.mgrid[:48, :64]
    found = 0.5 + 0.3 * np.sin(columns / 9) * np.cos(rows / 7) + 0.2 * rows / 48
    return np.clip(found, 0, 1).astype(np.float32)


@pytest.fixture
def meters(disparity):
    return (1 / (TRUTH[0] * disparity + TRUTH[1])).astype(np.float32)


def header(seconds=10.0, frame_id="optical"):
    found = Header(frame_id=frame_id)
    found.stamp.sec, found.stamp.nanosec = int(seconds), round(seconds % 1 * 1e9)
    return found


def asked(source="reference", **values):
    return from_values({"scale.source": source, **values})


def depth_reference(meters, at=None):
    return Reference("/depth", image_message(at or header(), meters))


def test_a_fixed_scale_is_taken_as_given(disparity, meters):
    tracker = ScaleTracker()
    given = asked("fixed", **{"scale.fixed.scale": TRUTH[0], "scale.fixed.shift": TRUTH[1]})
    metric = tracker.metric(disparity, header(), CAMERA, given, None)
    np.testing.assert_allclose(metric.meters, meters, rtol=1e-5)
    assert (tracker.reason, tracker.residual) == ("", 0.0)


def test_a_depth_image_gives_the_scale(disparity, meters):
    meters_seen = meters.copy()
    meters_seen[:, :20] = np.nan
    metric = ScaleTracker().metric(
        disparity, header(), CAMERA, asked(), depth_reference(meters_seen)
    )
    np.testing.assert_allclose(metric.meters, meters, rtol=0.02)
    assert metric.residual < 0.02


def test_a_smaller_depth_image_fits_too(disparity, meters):
    metric = ScaleTracker().metric(
        disparity,
        header(),
        CAMERA,
        asked(),
        depth_reference(np.ascontiguousarray(meters[::2, ::2])),
    )
    assert np.median(np.abs(metric.meters / meters - 1)) < 0.03


def test_a_cloud_in_another_frame_gives_the_scale(disparity, meters):
    """The sensor sits 0.3 m to the right of the camera and is turned by 90 degrees about z."""
    points = CAMERA.rays() * meters[..., None]
    half = np.sqrt(0.5)
    pose = (0.3, 0.0, 0.0, 0.0, 0.0, half, half)
    back = transform(points.reshape(-1, 3) - np.float32(pose[:3]), (0, 0, 0, 0, 0, -half, half))
    cloud = cloud_message(
        header(frame_id="lidar"), back.reshape(48, 64, 3), np.zeros((48, 64, 3), np.uint8)
    )
    given = asked(**{"scale.reference.extrinsics": list(pose)})
    metric = ScaleTracker().metric(disparity, header(), CAMERA, given, Reference("/lidar", cloud))
    np.testing.assert_allclose(metric.meters, meters, rtol=0.02)


def test_the_nearest_point_of_a_pixel_counts():
    found = project(np.array([[0, 0, 4], [0, 0, 2], [0, 0, -1], [9, 0, 1]], np.float32), CAMERA)
    assert np.isfinite(found).sum() == 1
    assert np.nanmin(found) == 2


@pytest.mark.parametrize(("pitch", "roll"), [(0.0, 0.0), (0.3, 0.0), (0.2, 0.4)])
def test_the_floor_lies_at_the_given_height(pitch, roll):
    plane = GroundPlane(height=1.2, pitch=pitch, roll=roll)
    depth = floor_meters(CAMERA, plane)
    points = (CAMERA.rays() * depth[..., None])[np.isfinite(depth)]
    # A level camera's "down" is (0, 1, 0); pitched down, then rolled about the viewing axis.
    cos, sin = np.cos, np.sin
    tilt = np.array([[1, 0, 0], [0, cos(pitch), -sin(pitch)], [0, sin(pitch), cos(pitch)]])
    spin = np.array([[cos(roll), sin(roll), 0], [-sin(roll), cos(roll), 0], [0, 0, 1]])
    down = spin @ tilt @ np.array([0, 1, 0])
    np.testing.assert_allclose(points @ down, 1.2, rtol=1e-4)
    assert len(points) > 300


def test_the_floor_gives_the_scale(disparity):
    plane = {"scale.ground_plane.height": 1.0, "scale.ground_plane.pitch": 0.4}
    given = asked("ground_plane", **plane)
    truth = floor_meters(CAMERA, given.scale.ground_plane)
    seen = np.where(np.isfinite(truth), truth, 20.0)
    relative = ((1 / seen - TRUTH[1] / 4) / TRUTH[0]).astype(np.float32)
    metric = ScaleTracker().metric(relative, header(), CAMERA, given, None)
    on_floor = np.isfinite(truth)
    np.testing.assert_allclose(metric.meters[on_floor], truth[on_floor], rtol=0.03)


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        (None, "no reference has come yet"),
        (
            Reference("/depth", Image(header=header(9.0))),
            "/depth: the nearest reference is 1.000 s from the image, more than .* 0.2 s",
        ),
        (
            Reference("/depth", Image(header=header(frame_id="other"))),
            "/depth is in frame 'other', the image in 'optical': register it first",
        ),
        (Reference("/depth", Image(header=header(), encoding="rgb8")), "/depth: encoding 'rgb8'"),
        (
            Reference("/depth", Image(header=header(), encoding="32FC1", width=3, height=3)),
            "/depth: empty image",
        ),
    ],
)
def test_without_a_good_reference_the_reason_is_said(disparity, reference, text):
    tracker = ScaleTracker()
    assert tracker.metric(disparity, header(), CAMERA, asked(), reference) is None
    assert re.search(text, tracker.reason)
    assert np.isnan(tracker.residual)


def test_the_reference_nearest_in_time_is_taken(meters):
    references = [depth_reference(meters, header(at)) for at in (9.0, 9.9, 10.05, 10.4)]
    assert nearest(references, header(10.0)) is references[2]
    assert nearest([], header()) is None


def test_a_reference_of_nothing_is_no_fit(disparity):
    tracker = ScaleTracker()
    nothing = depth_reference(np.full((48, 64), np.nan, np.float32))
    assert tracker.metric(disparity, header(), CAMERA, asked(), nothing) is None
    assert tracker.reason.startswith("no scale: ")


def test_a_bad_fit_is_refused(disparity, meters):
    tracker = ScaleTracker()
    noise = np.random.default_rng(0).uniform(0.5, 1.5, meters.shape).astype(np.float32)
    given = asked(**{"scale.max_residual": 0.001})
    found = tracker.metric(disparity, header(), CAMERA, given, depth_reference(meters * noise))
    assert found is None
    assert "scale" in tracker.reason


def test_the_last_fit_holds_for_a_while(disparity, meters):
    tracker, given = ScaleTracker(), asked(**{"scale.hold": 1.0})
    assert tracker.metric(disparity, header(), CAMERA, given, depth_reference(meters))
    late = header(10.9)
    assert tracker.metric(disparity, late, CAMERA, given, depth_reference(meters)) is not None
    assert tracker.metric(disparity, header(11.5), CAMERA, given, depth_reference(meters)) is None
    assert tracker.metric(disparity, header(9.0), CAMERA, given, depth_reference(meters)) is None


def test_a_reset_forgets(disparity, meters):
    tracker, given = ScaleTracker(), asked()
    assert tracker.metric(disparity, header(), CAMERA, given, depth_reference(meters))
    tracker.reset()
    assert tracker.metric(disparity, header(10.5), CAMERA, given, None) is None


def test_smoothing_keeps_a_share_of_the_last(disparity, meters):
    tracker, given = ScaleTracker(), asked(**{"scale.smoothing": 0.5})
    first = tracker.metric(disparity, header(), CAMERA, given, depth_reference(meters))
    second = tracker.metric(disparity, header(), CAMERA, given, depth_reference(meters / 3))
    np.testing.assert_allclose(1 / second.meters, 2 / first.meters, rtol=0.05)
