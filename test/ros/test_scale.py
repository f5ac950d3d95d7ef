# SPDX-License-Identifier: Apache-2.0
"""Metres from every source, and the reasons when there are none."""

from __future__ import annotations

import importlib.util
import re

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from diception_ros.geometry import Intrinsics, floor_depth, transform
from diception_ros.ros.cloud import cloud_message
from diception_ros.ros.messages import image_message
from diception_ros.ros.parameters import from_values
from diception_ros.ros.scale import Reference, ScaleTracker, nearest, plane_below
from diception_ros.ros.transforms import Transforms

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


def test_the_floor_gives_the_scale(disparity):
    plane = {"scale.ground_plane.height": 1.0, "scale.ground_plane.pitch": 0.4}
    given = asked("ground_plane", **plane)
    truth = floor_depth(CAMERA, 1.0, 0.4, 0.0)
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


def test_smoothing_keeps_a_share_of_the_last_where_both_agree(disparity, meters):
    """Noise is smoothed; a scale that has really changed counts at once."""
    rng, given = np.random.default_rng(0), asked(**{"scale.smoothing": 0.9})
    smooth, plain = ScaleTracker(), ScaleTracker()
    scales = {smooth: [], plain: []}
    for i in range(40):
        noisy = meters * rng.normal(1, 0.05, meters.shape).astype(np.float32)
        for tracker, parameters in ((smooth, given), (plain, asked())):
            tracker.metric(disparity, header(10 + i), CAMERA, parameters, at(noisy, 10 + i))
            scales[tracker].append(tracker.fit.scale)
    assert np.std(scales[smooth][10:]) < 0.75 * np.std(scales[plain][10:])
    changed = smooth.metric(disparity, header(60), CAMERA, given, at(meters / 3, 60))
    np.testing.assert_allclose(changed.meters, meters / 3, rtol=0.02)


def at(meters, seconds):
    return depth_reference(meters, header(seconds))


def test_between_two_periods_the_last_fit_serves(disparity, meters):
    tracker = ScaleTracker()
    given = asked(**{"scale.period": 1.0, "scale.hold": 0.0})
    first = tracker.metric(disparity, header(10.0), CAMERA, given, at(meters, 10.0))
    same = tracker.metric(disparity, header(10.5), CAMERA, given, at(meters / 2, 10.5))
    np.testing.assert_array_equal(same.meters, first.meters)
    assert (tracker.age, tracker.reason) == (pytest.approx(0.5), "")
    other = tracker.metric(disparity, header(11.0), CAMERA, given, at(meters / 2, 11.0))
    np.testing.assert_allclose(other.meters, meters / 2, rtol=0.02)
    assert tracker.age == 0.0


def test_a_changed_scale_does_not_wait_for_the_end_of_a_period():
    truth = floor_depth(CAMERA, 1.0, 0.4, 0.0)
    seen = np.where(np.isfinite(truth), truth, 20.0)
    relative = ((1 / seen - TRUTH[1] / 4) / TRUTH[0]).astype(np.float32)
    tracker, found = ScaleTracker(), []
    for second, height in ((10.0, 1.0), (11.0, 0.5)):
        plane = {"scale.ground_plane.height": height, "scale.ground_plane.pitch": 0.4}
        given = asked("ground_plane", **plane, **{"scale.period": 60.0})
        found.append(tracker.metric(relative, header(second), CAMERA, given, None).meters)
    on_floor = np.isfinite(truth)
    np.testing.assert_allclose(found[1][on_floor], found[0][on_floor] / 2, rtol=0.03)


def test_the_diagnostics_show_the_fit_and_why_it_is_held(disparity, meters):
    tracker, given = ScaleTracker(), asked()
    assert np.isnan(tracker.values()["scale residual"])
    tracker.metric(disparity, header(), CAMERA, given, at(meters, 10.0))
    found = tracker.values()
    assert found["scale (1/m)"] == pytest.approx(TRUTH[0], rel=0.02)
    assert (found["scale coverage"], found["scale age (s)"]) == (1.0, 0.0)
    assert found["scale held because"] == ""
    tracker.metric(disparity, header(10.5), CAMERA, given, at(meters, 10.0))
    assert "the nearest reference is 0.500 s" in tracker.values()["scale held because"]
    assert tracker.values()["scale age (s)"] == pytest.approx(0.5)


def test_confidence_falls_beyond_what_the_reference_has_seen(disparity, meters):
    """The reference covers near things only; what is farther is extrapolated."""
    tracker, near = ScaleTracker(), meters < 2
    noise = np.random.default_rng(0).normal(1, 0.03, meters.shape).astype(np.float32)
    seen = np.where(near, meters * noise, np.nan).astype(np.float32)
    tracker.metric(disparity, header(), CAMERA, asked(), depth_reference(seen))
    error = tracker.error(disparity)
    assert error[near].max() == pytest.approx(tracker.residual, rel=0.1)
    assert error[meters > 2.5].min() > 1.3 * error[near].max()


def test_a_least_coverage_can_be_asked(disparity, meters):
    tracker = ScaleTracker()
    seen = np.where(np.arange(64) < 16, meters, np.nan).astype(np.float32)
    given = asked(**{"scale.reference.min_coverage": 0.5})
    assert tracker.metric(disparity, header(), CAMERA, given, depth_reference(seen)) is None
    assert tracker.reason == "no scale: 768 reference pixels, at least 1536 are needed"


@pytest.mark.parametrize(("pitch", "roll"), [(0.0, 0.0), (0.4, 0.0), (0.3, -0.2)])
def test_the_plane_comes_from_the_pose_of_the_camera(pitch, roll):
    """An optical frame (x right, y down, z forward) that looks along x of a frame with z up."""
    from scipy.spatial.transform import Rotation

    level = Rotation.from_matrix([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    turned = level * Rotation.from_euler("x", -pitch) * Rotation.from_euler("z", roll)
    plane = plane_below((0.1, 0.2, 1.3, *turned.as_quat()))
    assert (plane.height, plane.pitch) == (1.3, pytest.approx(pitch))
    assert plane.roll == pytest.approx(roll)


def test_tf_gives_the_plane_and_the_extrinsics(disparity, meters):
    asked_for = []

    def find_pose(target, source, stamp):
        asked_for.append((target, source, stamp.sec))
        if target == "floor":
            return (0.0, 0.0, 1.0, -0.5, 0.5, -0.5, 0.5)  # level, looking along x
        return (0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)

    tracker = ScaleTracker(find_pose)
    points = CAMERA.rays() * meters[..., None] - np.float32([0.3, 0, 0])
    cloud = cloud_message(header(frame_id="lidar"), points, np.zeros((48, 64, 3), np.uint8))
    given = asked(**{"scale.reference.use_tf": True})
    metric = tracker.metric(disparity, header(), CAMERA, given, Reference("/lidar", cloud))
    np.testing.assert_allclose(metric.meters, meters, rtol=0.02)
    truth = floor_depth(CAMERA, 1.0, 0.0, 0.0)
    relative = np.where(np.isfinite(truth), 1 / truth, 0.05).astype(np.float32)
    given = asked("ground_plane", **{"scale.ground_plane.frame": "floor"})
    assert tracker.metric(relative, header(), CAMERA, given, None) is not None
    assert tracker.fit.scale == pytest.approx(1.0, rel=0.02)
    assert asked_for == [("optical", "lidar", 10), ("floor", "optical", 10)]


def test_a_camera_under_the_floor_is_named():
    with pytest.raises(ValueError, match=r"-0.500 m above scale.ground_plane.frame: expected a fr"):
        plane_below((0.0, 0.0, -0.5, 0.0, 0.0, 0.0, 1.0))


@pytest.mark.skipif(importlib.util.find_spec("tf2_ros") is not None, reason="tf2_ros is here")
def test_without_tf2_it_is_said_what_to_install(disparity):
    tracker = ScaleTracker(Transforms(None))
    given = asked("ground_plane", **{"scale.ground_plane.frame": "floor"})
    assert tracker.metric(disparity, header(), CAMERA, given, None) is None
    assert "apt install ros-$ROS_DISTRO-tf2-ros-py" in tracker.reason
