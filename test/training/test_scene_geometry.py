# SPDX-License-Identifier: Apache-2.0
"""A scene's truth by other means: implicit surfaces, cross products, projected hulls, warps."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from diception_ros.training.scenes import (
    Camera,
    Frame,
    World,
    make_frame,
    render,
    sample_camera,
    sample_world,
    sequence,
)
from diception_ros.training.scenes.objects import person
from diception_ros.training.scenes.shapes import BOX, CYLINDER, ELLIPSOID
from diception_ros.training.scenes.solids import Light, Material, Solid, placed, towards, yaw
from diception_ros.training.scenes.world import look

GREY = Material((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SIZE = 96
FINE = 16
"""Hulls are drawn so many times larger: OpenCV draws half a pixel too much on every side."""
EYE = np.array([0.2, -3.0, 1.4])
CAMERA = Camera(EYE, look(EYE, np.array([0, 0, 0.6]), 0.1), 0.9)
TILT = towards(np.array([0.3, -0.5, 0.8])) @ yaw(0.4)


def world_of(*solids: Solid) -> World:
    light, grey = Light(np.array([0, -2, 3.0]), np.full(3, 5.0)), np.full(3, 0.5)
    return World(solids, None, (), (light,), grey, (grey, grey), (), np.full(3, 3.0))


def optical_points(frame: Frame) -> np.ndarray:
    """(H, W, 3) metres in the optical frame, by the intrinsics alone."""
    fx, fy, cx, cy = frame.intrinsics
    rows, columns = np.indices(frame.depth.shape)
    rays = np.stack([(columns - cx) / fx, (rows - cy) / fy, np.ones(rows.shape)], axis=-1)
    return rays * frame.depth[..., None].astype(np.float64)


def world_points(frame: Frame, camera: Camera) -> np.ndarray:
    return optical_points(frame) @ camera.rotation.T + camera.position


def off_surface(solid: Solid, points: np.ndarray) -> np.ndarray:
    """Distances (N,) in metres, to first order, from the surface of a solid."""
    local = (points - solid.centre) @ solid.rotation
    away = np.abs(local) - solid.half
    if solid.kind == BOX:
        inside, outside = np.minimum(away.max(-1), 0), np.linalg.norm(np.maximum(away, 0), axis=-1)
        return np.abs(inside + outside)
    if solid.kind == CYLINDER:
        radius = solid.half[0]
        side = np.hypot(local[:, 0], local[:, 1] * radius / solid.half[1]) - radius
        out = np.stack([side, away[:, 2]], axis=-1)
        return np.abs(np.minimum(out.max(-1), 0) + np.linalg.norm(np.maximum(out, 0), axis=-1))
    value = ((local / solid.half) ** 2).sum(-1) - 1
    return np.abs(value) / np.linalg.norm(2 * local / solid.half**2, axis=-1)


SHAPES = {
    "a plane": Solid(BOX, np.array([0, 0, -1.0]), np.array([90, 90, 1.0]), GREY, instance=1),
    "a sphere": Solid(ELLIPSOID, np.array([0, 0, 0.6]), np.full(3, 0.7), GREY, instance=1),
    "an egg": Solid(
        ELLIPSOID, np.array([0, 0, 0.6]), np.array([0.3, 0.8, 0.5]), GREY, TILT, instance=1
    ),
    "a box": Solid(BOX, np.array([0, 0, 0.6]), np.array([0.4, 0.6, 0.7]), GREY, TILT, instance=1),
    "a can": Solid(
        CYLINDER, np.array([0, 0, 0.6]), np.array([0.5, 0.5, 0.8]), GREY, TILT, instance=1
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_depth_puts_every_pixel_on_the_surface_to_float_precision(name: str) -> None:
    frame = render(world_of(SHAPES[name]), CAMERA, SIZE, SIZE)
    hit = (frame.instances == 1) & (frame.depth < 20)
    assert 0.1 < hit.mean() < 0.9
    error = off_surface(SHAPES[name], world_points(frame, CAMERA)[hit])
    # float32 has 6e-8; the ray's distance is squared and multiplied a few times.
    assert (error / frame.depth[hit]).max() < 4e-6


@pytest.mark.parametrize("seed", [0, 4, 8, 10, 21])
def test_every_pixel_of_a_scene_lies_on_a_solid_of_its_instance(seed: int) -> None:
    world = sample_world(seed)
    camera = sample_camera(world, seed)
    frame = make_frame(seed, SIZE, SIZE)
    seen = np.isfinite(frame.depth) & (frame.depth < 30)
    points, ids = world_points(frame, camera), frame.instances
    shell = [replace(world.shell, instance=0)] if world.shell else []
    for instance in np.unique(ids[seen]):
        mine = seen & (ids == instance)
        solids = [s for s in (*world.solids, *shell) if s.instance == instance]
        error = np.min([off_surface(s, points[mine]) for s in solids], axis=0)
        assert (error / frame.depth[mine]).max() < 2e-5
        assert {s.category for s in solids} == set(np.unique(frame.categories[mine]))


@pytest.mark.parametrize("seed", [0, 4, 8, 21])
def test_normals_are_the_cross_products_of_the_depth(seed: int) -> None:
    frame = make_frame(seed, 160, 160)
    points = optical_points(frame)
    left, right = points[1:-1, 1:-1] - points[1:-1, :-2], points[1:-1, 2:] - points[1:-1, 1:-1]
    up, down = points[1:-1, 1:-1] - points[:-2, 1:-1], points[2:, 1:-1] - points[1:-1, 1:-1]
    # Both sides of a pixel, in both directions, on one surface: no edge is near.
    pairs = [np.cross(a, b) for a in (up, down) for b in (left, right)]
    normals = np.stack([p / np.linalg.norm(p, axis=-1, keepdims=True) for p in pairs])
    inner = (normals * normals[0]).sum(-1).min(0) > 0.9998
    assert inner.mean() > 0.4
    true = frame.normals[1:-1, 1:-1][inner]
    cosine = (normals.mean(0)[inner] * true).sum(-1)
    assert np.percentile(cosine, 1) > 0.999  # and the sign: towards the camera
    assert (true[:, 2] < 0.7).all()


def test_ids_are_the_projected_hulls_of_boxes_painted_from_far_to_near() -> None:
    rng = np.random.default_rng(0)
    boxes = []
    for number in range(1, 7):
        depth = 1.6 + 1.1 * number  # their ranges of depth do not meet
        place = CAMERA.rotation @ np.array([*rng.uniform(-0.3, 0.3, 2) * depth, depth])
        turn = towards(rng.normal(size=3)) @ yaw(rng.uniform(0, 6))
        half = rng.uniform(0.1, 0.3, 3)
        boxes.append(Solid(BOX, EYE + place, half, GREY, turn, instance=number))
    frame = render(world_of(*boxes), CAMERA, 256, 256)
    canvas = np.zeros((256 * FINE, 256 * FINE), np.uint8)
    for box in reversed(boxes):
        cv2.fillConvexPoly(canvas, hull(box, frame.intrinsics), box.instance)
    painted = canvas[::FINE, ::FINE]
    assert len(np.unique(frame.instances)) == 7
    for box in boxes:
        mine, drawn = frame.instances == box.instance, painted == box.instance
        assert (mine & drawn).sum() / (mine | drawn).sum() > 0.97  # all that differs is the rim
    wrong = painted != frame.instances
    rim = cv2.morphologyEx(painted, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    assert not (wrong & ~rim).any()
    assert wrong.mean() < 1e-3


def hull(box: Solid, intrinsics: tuple[float, float, float, float]) -> np.ndarray:
    """The outline of the projected corners, (K, 2) in pixels of the fine canvas."""
    fx, fy, cx, cy = intrinsics
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    corners = (signs * box.half) @ box.rotation.T + box.centre
    x, y, z = ((corners - CAMERA.position) @ CAMERA.rotation).T
    pixels = np.stack([fx * x / z + cx, fy * y / z + cy], axis=1)
    return np.round(cv2.convexHull(pixels.astype(np.float32))[:, 0] * FINE).astype(np.int32)


@pytest.mark.parametrize("seed", range(6))
def test_joints_lie_within_their_persons_outline(seed: int) -> None:
    rng = np.random.default_rng(seed)
    solids, joints = person(rng)
    body = placed(solids, np.zeros(3), float(rng.uniform(0, 6)), 3, 13)
    turn = body[0].rotation @ solids[0].rotation.T
    world = replace(world_of(*body), keypoints=((3, joints @ turn.T),))
    camera = Camera(EYE, look(EYE, np.array([0, 0, 0.9])), 0.9)
    frame = render(world, camera, 160, 160)
    ((instance, pixels, visible),) = frame.keypoints
    assert instance == 3 and visible.sum() >= 7  # the others: behind the person's own body
    outline = cv2.dilate((frame.instances == 3).astype(np.uint8), np.ones((3, 3), np.uint8))
    columns, rows = np.round(pixels).astype(int).T
    assert outline[rows, columns].all()  # to a pixel: the nose is on the rim of a profile


def test_a_joint_behind_a_wall_is_not_visible() -> None:
    solids, joints = person(np.random.default_rng(0))
    wall = Solid(BOX, np.array([0, -1.0, 0.4]), np.array([2, 0.05, 0.4]), GREY, instance=9)
    body = placed(solids, np.zeros(3), 0.0, 3, 13)
    world = replace(world_of(*body, wall), keypoints=((3, joints),))
    camera = Camera(EYE, look(EYE, np.array([0, 0, 0.9])), 0.9)
    frame = render(world, camera, 160, 160)
    ((_, pixels, visible),) = frame.keypoints
    columns, rows = np.round(pixels).astype(int).T
    hidden = frame.instances[rows, columns] == 9
    assert hidden.sum() >= 4 and not visible[hidden].any()
    assert visible[~hidden].sum() >= 7


def test_poses_carry_one_frames_points_onto_the_surfaces_of_another() -> None:
    frames = list(sequence(3, 4, SIZE, SIZE))
    first, at_first = frames[0]
    points = world_points(first, at_first)
    for second, at_second in frames[1:]:
        assert np.linalg.norm(at_second.position - at_first.position) > 0.1
        seen = (points - at_second.position) @ at_second.rotation
        fx, fy, cx, cy = second.intrinsics
        column = np.round(seen[..., 0] / seen[..., 2] * fx + cx)
        row = np.round(seen[..., 1] / seen[..., 2] * fy + cy)
        inside = (row >= 0) & (row < SIZE) & (column >= 0) & (column < SIZE) & (seen[..., 2] > 0)
        there = row[inside].astype(int), column[inside].astype(int)
        # From the plane of the surface that the second camera sees there.
        offset = seen[inside] - optical_points(second)[there]
        distance = np.abs((offset * second.normals[there]).sum(-1))
        assert np.median(distance) < 1e-5
        assert (distance < 5e-3).mean() > 0.9  # the others: hidden or on edges
        same = second.instances[there] == first.instances[inside]
        assert same.mean() > 0.9
