# SPDX-License-Identifier: Apache-2.0
"""The floor's plane in relative geometry, on rendered rooms with exact ground truth."""

from __future__ import annotations

import re

import numpy as np
import pytest

from diception_ros.geometry import Intrinsics, apply_scale, fit_floor, floor_depth, project
from diception_ros.tasks import disparity_from_depth
from diception_ros.training.scenes import render, sample_camera, sample_world

CAMERA = Intrinsics(fx=60.0, fy=60.0, cx=31.5, cy=23.5, width=64, height=48)
SEEDS = (1, 2, 5, 8, 10, 13, 22, 26, 28, 35, 46, 54)
"""Of the first sixty, some with much floor, some with little, two (8, 28) with none to speak of."""


def test_the_nearest_point_of_a_pixel_counts():
    found = project(np.array([[0, 0, 4], [0, 0, 2], [0, 0, -1], [9, 0, 1]], np.float32), CAMERA)
    assert np.isfinite(found).sum() == 1
    assert np.nanmin(found) == 2


@pytest.mark.parametrize(("pitch", "roll"), [(0.0, 0.0), (0.3, 0.0), (0.2, 0.4)])
def test_the_floor_lies_at_the_given_height(pitch, roll):
    depth = floor_depth(CAMERA, 1.2, pitch, roll)
    points = (CAMERA.rays() * depth[..., None])[np.isfinite(depth)]
    # A level camera's "down" is (0, 1, 0); pitched down, then rolled about the viewing axis.
    cos, sin = np.cos, np.sin
    tilt = np.array([[1, 0, 0], [0, cos(pitch), -sin(pitch)], [0, sin(pitch), cos(pitch)]])
    spin = np.array([[cos(roll), sin(roll), 0], [-sin(roll), cos(roll), 0], [0, 0, 1]])
    down = spin @ tilt @ np.array([0, 1, 0])
    np.testing.assert_allclose(points @ down, 1.2, rtol=1e-4)
    assert len(points) > 300


def seen(seed):
    """Depth of a rendered scene, and the depth its floor would have."""
    world = sample_world(seed)
    camera = sample_camera(world, seed)
    frame = render(world, camera, 72, 96)
    down = camera.rotation.T @ np.array([0, 0, -1.0])
    pitch, roll = float(np.arcsin(down[2])), float(np.arctan2(down[0], down[1]))
    height = float(camera.position[2])
    return frame.depth, floor_depth(Intrinsics(*frame.intrinsics, 96, 72), height, pitch, roll)


def test_metres_from_the_floor_are_within_five_percent():
    """Wherever a tenth of the view below the horizon is floor; elsewhere it may be refused."""
    errors, refused = {}, []
    for seed in SEEDS:
        depth, floor = seen(seed)
        fit = fit_floor(disparity_from_depth(depth).values, floor)
        share = (np.abs(depth / floor - 1) < 0.01).sum() / np.isfinite(floor).sum()
        if fit.valid:
            metric = apply_scale(disparity_from_depth(depth).values, fit, 0.05, 100)
            errors[seed] = abs(float(np.nanmedian(metric.meters / depth)) - 1)
        else:
            refused.append((seed, round(float(share), 2), fit.reason))
            assert share < 0.1
    print(f"errors of the metres: {errors}\nrefused: {refused}")
    assert max(errors.values()) < 0.05
    assert len(errors) >= 9


def test_a_table_top_is_not_taken_for_the_floor():
    """Two parallel planes: the upper one larger, the lower one is the floor."""
    floor = floor_depth(CAMERA, 1.2, 0.5, 0.0)
    table = floor_depth(CAMERA, 0.5, 0.5, 0.0)
    depth = np.where(np.arange(64) < 44, table, floor)
    depth = np.where(np.isfinite(depth), depth, 20.0).astype(np.float32)
    fit = fit_floor(disparity_from_depth(depth).values, floor)
    metric = apply_scale(disparity_from_depth(depth).values, fit, 0.05, 100)
    assert np.nanmedian(metric.meters / depth) == pytest.approx(1, rel=0.02)
    assert fit.inliers == pytest.approx(20 / 64, abs=0.05)


@pytest.mark.parametrize(
    ("relative", "reason"),
    [
        (np.full((48, 64), 0.5), "the disparity is the same at every pixel below the horizon"),
        (np.random.default_rng(0).random((48, 64)), "of the view below the horizon"),
        (np.tile(np.linspace(1, 0, 48)[:, None], (1, 64)), "scale .* is not positive"),
    ],
)
def test_what_is_no_floor_is_refused(relative, reason):
    fit = fit_floor(relative.astype(np.float32), floor_depth(CAMERA, 1.0, 0.4, 0.0))
    assert not fit.valid
    assert re.search(reason, fit.reason)


def test_a_camera_that_looks_up_sees_no_floor():
    fit = fit_floor(np.ones((48, 64), np.float32), floor_depth(CAMERA, 1.0, -1.2, 0.0))
    assert fit.reason == "0 pixels lie below the horizon, 200 needed"
