# SPDX-License-Identifier: Apache-2.0
"""Cameras, clouds, normals: against geometry worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diception_ros.geometry import Intrinsics, depth_to_points, normals_from_depth

CAMERA = Intrinsics(500.0, 520.0, 320.0, 240.0, 640, 480)


def test_points_equal_the_pinhole_formula():
    depth = np.random.default_rng(0).uniform(0.5, 5, (480, 640)).astype(np.float32)
    points = depth_to_points(depth, CAMERA)
    for v, u in [(0, 0), (240, 320), (100, 600)]:
        z = float(depth[v, u])
        expected = [(u - 320) * z / 500, (v - 240) * z / 520, z]
        np.testing.assert_allclose(points[v, u], expected, rtol=1e-6, atol=1e-6)


def test_unknown_depth_is_an_unknown_point():
    depth = np.full((480, 640), np.nan, np.float32)
    assert np.isnan(depth_to_points(depth, CAMERA)).all()


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_a_scaled_camera_sees_the_same_ray_at_the_same_place(width, height):
    scaled = CAMERA.scaled(width, height)
    for x in (0.0, 0.3, 1.0):  # place in the image, 0..1 from border to border
        ray = (x * 640 - 0.5 - CAMERA.cx) / CAMERA.fx
        assert (x * width - 0.5 - scaled.cx) / scaled.fx == pytest.approx(ray, abs=1e-6)
        ray = (x * 480 - 0.5 - CAMERA.cy) / CAMERA.fy
        assert (x * height - 0.5 - scaled.cy) / scaled.fy == pytest.approx(ray, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fx": 0.0}, "focal length fx must be positive, found 0: is the camera calibrated"),
        ({"fy": float("nan")}, "focal length fy must be positive, found nan"),
        ({"cx": float("inf")}, "principal point must be finite"),
        ({"width": 0}, "image size must be positive"),
    ],
)
def test_uncalibrated_cameras_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Intrinsics(**{**vars(CAMERA), **values})


def test_depth_of_another_size_is_refused():
    with pytest.raises(ValueError, match="depth is 320x240, the camera's image 640x480"):
        depth_to_points(np.ones((240, 320), np.float32), CAMERA)


@given(
    st.tuples(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6), st.just(-1.0)),
    st.floats(0.5, 8.0),
)
def test_normals_of_a_plane(direction, distance):
    normal = np.array(direction) / np.linalg.norm(direction)
    camera = CAMERA.scaled(64, 48)
    rays = camera.rays()
    facing = rays @ normal
    depth = np.where(facing < -0.1, -distance / facing, np.nan).astype(np.float32)
    normals = normals_from_depth(depth, camera)
    known = np.isfinite(normals).all(axis=-1)
    assert known.sum() > 20
    np.testing.assert_allclose(normals[known], np.broadcast_to(normal, (known.sum(), 3)), atol=5e-3)
