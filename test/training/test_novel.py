# SPDX-License-Identifier: Apache-2.0
"""The two tasks for adaptation: masks against geometry that is computed another way."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from diception_ros.training.cache import HELD_OUT
from diception_ros.training.scenes import Camera, novel, photos, render
from diception_ros.training.scenes.cracks import Crack, sample_crack
from diception_ros.training.scenes.handles import MODELS
from diception_ros.training.scenes.novel import (
    TASKS,
    WORLDS,
    floor_crack,
    floor_of,
    handle,
    handle_scene,
    light_floor,
    looking_down,
    make_pair,
)
from diception_ros.training.scenes.world import sample_camera, sample_world

SIZE = 96


@pytest.mark.parametrize("task", TASKS)
def test_a_pair_is_a_function_of_its_seed_and_its_mask_is_of_a_sensible_size(task: str) -> None:
    pairs = [make_pair(task, seed, SIZE, SIZE) for seed in (0, 1, 2, 0)]
    for pair in pairs:
        assert pair.rgb.shape == (SIZE, SIZE, 3) and pair.rgb.dtype == np.uint8
        assert pair.mask.shape == (SIZE, SIZE) and pair.mask.dtype == bool
        assert 0.004 < pair.mask.mean() < 0.7
        _, _, stats, _ = cv2.connectedComponentsWithStats(pair.mask.astype(np.uint8))
        assert stats[1:, cv2.CC_STAT_AREA].max() / SIZE**2 > 0.0024  # 40 pixels of 128 x 128
    np.testing.assert_array_equal(pairs[0].rgb, pairs[3].rgb)
    np.testing.assert_array_equal(pairs[0].mask, pairs[3].mask)
    assert (pairs[0].mask != pairs[1].mask).any()


def test_another_task_and_a_size_that_shows_nothing_are_errors(monkeypatch) -> None:
    monkeypatch.setattr(novel, "VARIANTS", 3)
    with pytest.raises(
        ValueError, match="no task 'cracks': choose one of floor-crack, handle, free-floor, support"
    ):
        make_pair("cracks", 0, SIZE, SIZE)
    with pytest.raises(ValueError, match="none of 3 scenes shows handle well in 2 x 2 pixels"):
        make_pair("handle", 0, 2, 2)


def test_tops_that_support_are_level_and_above_the_floor_that_is_free() -> None:
    for seed in range(4):
        variant = WORLDS + seed
        tops = novel.support(variant, SIZE, SIZE)
        world = novel.room(np.random.default_rng([variant, 7]))
        camera = sample_camera(world, variant)
        frame = render(world, camera, SIZE, SIZE)
        _, floor = floor_of(frame, camera)
        up = np.array([0, 0, 1.0]) @ camera.rotation
        if tops is not None:
            assert not (tops.mask & floor).any()
            np.testing.assert_allclose((frame.normals @ up)[tops.mask], 1, atol=0.05)
        driven = novel.free_floor(variant, SIZE, SIZE)
        assert driven is None or driven.mask.mean() > 0.08


def test_the_worlds_are_neither_trainings_nor_evaluations() -> None:
    assert WORLDS >= HELD_OUT + 1_000_000


def test_a_crack_covers_what_opencv_draws_of_it() -> None:
    crack = sample_crack(np.array([0.5, 1.0]), np.array([3.5, 2.8]), 0.2, np.random.default_rng(3))
    scale = 50
    drawn = np.zeros((200, 200), np.uint8)
    # As circles along each segment, of the width that the segment has there.
    for start, end, halves in zip(crack.start, crack.end, crack.halves, strict=True):
        for share in np.linspace(0, 1, 24):
            x, y = (start + share * (end - start)) * scale
            half = float(halves @ [1 - share, share]) * scale
            cv2.circle(drawn, (round(x * 64), round(y * 64)), round(half * 64), 1, -1, shift=6)
    rows, columns = np.indices(drawn.shape)
    points = np.stack([columns, rows], axis=-1).reshape(-1, 2) / scale
    covered = crack.covers(points).reshape(drawn.shape)
    assert covered.sum() > 500
    assert (covered & (drawn > 0)).sum() / (covered | (drawn > 0)).sum() > 0.75  # rims of 1 px
    rim = cv2.morphologyEx(drawn, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
    assert not ((covered != (drawn > 0)) & ~rim).any()


def test_a_straight_crack_is_as_wide_as_it_says() -> None:
    crack = Crack(np.zeros((1, 2)), np.array([[1.0, 0.0]]), np.array([[0.1, 0.2]]))
    points = np.array([[0, 0.09], [0, 0.11], [0.5, 0.14], [0.5, -0.16], [1.15, 0], [-0.11, 0]])
    np.testing.assert_array_equal(crack.covers(points), [True, False, True, False, True, False])


def found(task, count: int) -> list[int]:
    """The first variants that show something."""
    good = (v for v in range(WORLDS, WORLDS + 200) if task(v, SIZE, SIZE) is not None)
    return [next(good) for _ in range(count)]


def test_a_crack_lies_on_the_floor_that_is_seen_and_is_darker_than_it() -> None:
    for variant in found(floor_crack, 3):
        pair = floor_crack(variant, SIZE, SIZE)
        world = sample_world(variant)
        camera = looking_down(sample_camera(world, variant), scene_rng(variant))
        frame = render(world, camera, SIZE, SIZE)
        assert not frame.instances[pair.mask].any()
        assert (height_of(frame.depth, frame.intrinsics, camera)[pair.mask] < 1e-4).all()
        near = cv2.dilate(pair.mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        floor = floor_of(frame, camera)[1] & near & ~pair.mask
        assert pair.rgb[pair.mask].mean() < 0.6 * pair.rgb[floor].mean()


def scene_rng(variant: int) -> np.random.Generator:
    """floor_crack's own generator, after the draws of its floor."""
    rng = np.random.default_rng([variant, 5])
    light_floor(sample_world(variant), rng)
    return rng


def height_of(depth: np.ndarray, intrinsics: tuple[float, ...], camera: Camera) -> np.ndarray:
    """|z| in metres above the floor, by the third row of the rotation."""
    fx, fy, cx, cy = intrinsics
    rows, columns = np.indices(depth.shape)
    down = camera.rotation[2]
    rise = down[0] * (columns - cx) / fx + down[1] * (rows - cy) / fy + down[2]
    return np.abs(rise * depth + camera.position[2])


def test_a_handles_mask_is_where_the_scene_without_handles_differs() -> None:
    for variant in found(handle, 5):
        pair = handle(variant, SIZE, SIZE)
        world, camera, number = handle_scene(variant)
        bare = tuple(s for s in world.solids if s.instance != number)
        with_handles = render(world, camera, SIZE, SIZE, list(photos()))
        without = render(replace(world, solids=bare), camera, SIZE, SIZE)
        np.testing.assert_array_equal(pair.mask, with_handles.depth < without.depth)


@pytest.mark.parametrize("name", MODELS)
def test_a_handle_touches_its_body(name: str) -> None:
    for seed in range(5):
        thing = MODELS[name](np.random.default_rng(seed))
        ends = [s.centre + e * s.rotation[:, 2] * s.half[2] for s in thing.handle for e in (-1, 1)]
        nearest = min(
            np.linalg.norm(np.maximum(np.abs((p - b.centre) @ b.rotation) - b.half, 0))
            for p in ends
            for b in thing.body
        )
        assert nearest < 0.01
