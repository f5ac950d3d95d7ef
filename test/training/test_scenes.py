# SPDX-License-Identifier: Apache-2.0
"""The ray caster against geometry computed by hand."""

import numpy as np
import pytest

from diception_ros.training.scenes import CATEGORIES, Camera, World, make_frame, render, sequence
from diception_ros.training.scenes.render import Frame
from diception_ros.training.scenes.shapes import BOX, ELLIPSOID
from diception_ros.training.scenes.solids import Light, Material, Solid
from diception_ros.training.scenes.world import look

GREY = Material((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SIZE = 48


def world_of(*solids: Solid) -> World:
    light = Light(np.array([0, 0, 3.0]), np.full(3, 5.0))
    sky = (np.full(3, 0.6), np.full(3, 0.6))
    return World(solids, None, (), (light,), np.full(3, 0.3), sky, (), np.full(3, 3.0))


def rays(frame: Frame) -> np.ndarray:
    """Optical rays (H, W, 3) with z = 1, from the frame's own intrinsics."""
    fx, fy, cx, cy = frame.intrinsics
    rows, columns = np.mgrid[0 : frame.depth.shape[0], 0 : frame.depth.shape[1]]
    return np.stack([(columns - cx) / fx, (rows - cy) / fy, np.ones(rows.shape)], axis=-1)


def test_a_floor_lies_where_the_pinhole_model_puts_it() -> None:
    floor = Solid(BOX, np.array([0, 0, -1.0]), np.array([90, 90, 1.0]), GREY)
    position = np.array([0.3, -0.2, 1.2])
    camera = Camera(position, look(position, np.array([2.0, 0.5, 0.0])), 1.0)
    frame = render(world_of(floor), camera, SIZE, SIZE)
    world_rays = rays(frame) @ camera.rotation.T
    expected = -position[2] / world_rays[..., 2]
    near = (world_rays[..., 2] < 0) & (expected < 50)
    assert near.mean() > 0.5
    np.testing.assert_allclose(frame.depth[near], expected[near], rtol=1e-3)
    up = np.array([0, 0, 1.0]) @ camera.rotation
    np.testing.assert_allclose(frame.normals[near] - up, 0, atol=1e-4)
    assert np.isnan(frame.depth[world_rays[..., 2] > 0]).all()


def test_a_ball_has_the_analytic_depth_normals_and_outline() -> None:
    centre, radius = np.array([3.0, 0, 1.0]), 0.6
    ball = Solid(ELLIPSOID, centre, np.full(3, radius), GREY, instance=7, category=12)
    position = np.array([0, 0, 1.0])
    camera = Camera(position, look(position, centre), 0.8)
    frame = render(world_of(ball), camera, SIZE, SIZE)
    ray = rays(frame)
    middle = (centre - position) @ camera.rotation
    a, b = (ray**2).sum(-1), ray @ middle
    root = b**2 - a * (middle @ middle - radius**2)
    hit = root > 0
    depth = (b[hit] - np.sqrt(root[hit])) / a[hit]
    np.testing.assert_array_equal(frame.instances == 7, hit)
    np.testing.assert_array_equal(frame.categories == 12, hit)
    np.testing.assert_allclose(frame.depth[hit], depth, rtol=1e-3)
    normals = (ray[hit] * depth[:, None] - middle) / radius
    np.testing.assert_allclose(frame.normals[hit], normals, atol=2e-3)


def test_a_frame_is_a_function_of_its_seed() -> None:
    first, again, other = (
        make_frame(5, SIZE, SIZE),
        make_frame(5, SIZE, SIZE),
        make_frame(6, SIZE, SIZE),
    )
    np.testing.assert_array_equal(first.rgb, again.rgb)
    np.testing.assert_array_equal(first.depth, again.depth)
    assert (first.rgb != other.rgb).any()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_normals_face_the_camera_and_have_unit_length(seed: int) -> None:
    frame = make_frame(seed, SIZE, SIZE)
    seen = np.isfinite(frame.depth)
    assert seen.any()
    np.testing.assert_allclose(np.linalg.norm(frame.normals[seen], axis=-1), 1, atol=1e-4)
    assert ((frame.normals * rays(frame)).sum(-1)[seen] <= 1e-3).all()
    assert frame.categories.max() < len(CATEGORIES)
    assert (frame.instances[frame.categories > 0] > 0).all()


def test_normals_agree_with_the_slope_of_the_depth() -> None:
    frame = make_frame(4, 96, 96)
    points = rays(frame) * frame.depth[..., None]
    across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    normals = np.cross(down, across)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    cosine = np.abs((normals * frame.normals[1:-1, 1:-1]).sum(-1))
    assert np.nanmedian(cosine) > 0.999
    assert np.nanmean(cosine > 0.98) > 0.8  # the rest are edges


def test_a_moving_camera_sees_the_same_surfaces() -> None:
    (first, at_first), (second, at_second) = sequence(3, 2, SIZE, SIZE)
    points = (rays(first) * first.depth[..., None]) @ at_first.rotation.T + at_first.position
    seen = (points - at_second.position) @ at_second.rotation
    fx, fy, cx, cy = second.intrinsics
    column = np.round(seen[..., 0] / seen[..., 2] * fx + cx)
    row = np.round(seen[..., 1] / seen[..., 2] * fy + cy)
    inside = (row >= 0) & (row < SIZE) & (column >= 0) & (column < SIZE) & (seen[..., 2] > 0)
    there = second.depth[row[inside].astype(int), column[inside].astype(int)]
    error = np.abs(there - seen[..., 2][inside]) / seen[..., 2][inside]
    assert np.median(error) < 0.02


GOLDEN = {
    1: (2.2287, 0.0, {0: 2690, 10: 701, 4: 549, 19: 73}),
    4: (2.2842, 0.0, {0: 3592, 1: 319, 2: 117, 6: 33}),
    10: (6.0280, 0.4658, {0: 4059, 11: 28, 7: 6}),
    12: (1.8776, 0.0, {0: 2788, 8: 754, 2: 229, 3: 108}),
}
"""Per seed at 64 x 64: mean depth in metres, share of sky, pixels of instances."""


@pytest.mark.parametrize("seed", GOLDEN)
def test_a_seed_keeps_its_scene(seed: int) -> None:
    """What was trained on a seed must be found again: bundles name the seeds they have seen."""
    depth, sky, areas = GOLDEN[seed]
    frame = make_frame(seed, 64, 64)
    assert np.nanmean(frame.depth) == pytest.approx(depth, abs=2e-3)
    assert np.isnan(frame.depth).mean() == pytest.approx(sky, abs=1e-3)
    for instance, area in areas.items():
        assert abs((frame.instances == instance).sum() - area) <= 2  # rims, by float rounding
