# SPDX-License-Identifier: Apache-2.0
"""encode then decode gives the target back, for every task."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from diception_ros.tasks import (
    TASKS,
    Disparity,
    Instances,
    Keypoints,
    Mask,
    Normals,
    disparity_from_depth,
)
from diception_ros.tasks.pose import disk_radius

SHAPE = st.tuples(st.integers(1, 12), st.integers(1, 12))
UNIT = st.floats(0, 1, width=32)


@given(hnp.arrays(np.float32, SHAPE, elements=UNIT))
def test_depth(values):
    colours = TASKS["depth"].encode(Disparity(values))
    assert colours.shape == (*values.shape, 3)
    np.testing.assert_allclose(TASKS["depth"].decode(colours).values, values, atol=1e-6)


@given(
    hnp.arrays(
        np.float32,
        st.tuples(SHAPE.map(lambda s: s[0]), st.just(4), st.just(3)),
        elements=st.floats(-1, 1, width=32),
    )
)
def test_normal(vectors):
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    facing = np.array([0, 0, -1], np.float32)
    vectors = np.where(length > 0.1, vectors / np.maximum(length, 0.1), facing).astype(np.float32)
    decoded = TASKS["normal"].decode(TASKS["normal"].encode(Normals(vectors))).vectors
    np.testing.assert_allclose(decoded, vectors, atol=1e-5)


@given(hnp.arrays(np.bool_, SHAPE))
def test_point(mask):
    target = Mask(mask, mask.astype(np.float32))
    decoded = TASKS["point"].decode(TASKS["point"].encode(target))
    np.testing.assert_array_equal(decoded.mask, mask)
    np.testing.assert_array_equal(decoded.score, target.score)


def blocks(seed, rows, columns):
    """Ids of separate rectangles on a grid, some missing."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((rows * 40, columns * 40), np.uint16)
    number = 0
    for row in range(rows):
        for column in range(columns):
            if rng.random() < 0.8:
                number += 1
                h, w = rng.integers(12, 34, 2)
                ids[row * 40 + 3 : row * 40 + 3 + h, column * 40 + 3 : column * 40 + 3 + w] = number
    return ids


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 6))
@pytest.mark.parametrize("name", ["entity", "semantic"])
def test_instances(name, seed, rows, columns):
    ids = blocks(seed, rows, columns)
    colours = TASKS[name].encode(Instances(ids, ()), np.random.default_rng(seed))
    found = TASKS[name].decode(colours)
    assert len(found.instances) == len(np.unique(ids)) - 1
    np.testing.assert_array_equal(found.ids > 0, ids > 0)
    for instance in found.instances:
        inside = found.ids == instance.id
        x, y, width, height = instance.box
        columns_, rows_ = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
        assert (x, y) == (columns_[0], rows_[0])
        assert (width, height) == (np.ptp(columns_) + 1, np.ptp(rows_) + 1)
        assert instance.area == inside.sum()
        assert inside[round(instance.centroid[1]), round(instance.centroid[0])]
        assert len(np.unique(ids[inside])) == 1
        assert instance.score > (0.95 if name == "entity" else 0.5)  # one grey one is a silhouette


def test_semantic_without_a_generator_is_white():
    ids = blocks(0, 2, 3)
    colours = TASKS["semantic"].encode(Instances(ids, ()))
    assert set(np.unique(colours)) == {0.0, 1.0}
    assert len(TASKS["semantic"].decode(colours).instances) == len(np.unique(ids)) - 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 8))
def test_pose(seed, count):
    rng = np.random.default_rng(seed)
    cells = rng.permutation(48)[:count]
    points = np.stack([cells % 8, cells // 8], axis=1) * 40 + 20 + rng.uniform(-8, 8, (count, 2))
    target = Keypoints(points.astype(np.float32), np.ones(count, np.float32), (240, 320))
    found = TASKS["pose"].decode(TASKS["pose"].encode(target))
    assert len(found.points) == count
    assert found.size == (240, 320)
    for point in points:
        assert np.linalg.norm(found.points - point, axis=1).min() < 1.0
    assert (found.scores > 0.5).all()


def farthest(points, found):
    """Pixels from any of `points` to the found keypoint that is nearest to it."""
    return max(np.linalg.norm(found.points - point, axis=1).min() for point in points)


def drawn(points, size, limbs=()):
    target = Keypoints(np.float32(points), np.ones(len(points), np.float32), size)
    return TASKS["pose"].encode(target, limbs=limbs)


def test_limbs_hide_no_keypoint():
    points = [[40, 40], [40, 120], [100, 120]]
    found = TASKS["pose"].decode(drawn(points, (240, 320), [(0, 1), (1, 2)]))
    assert len(found.points) == 3
    assert farthest(points, found) < 1.0
    assert disk_radius(240, 320) == 3


@pytest.mark.parametrize(
    ("apart", "shape"),
    [
        (1.4, [(0, 0), (1, 0)]),
        (1.6, [(0, 0), (0.8, 0.6), (1.6, 1.2)]),
        (2.0, [(0, 0), (0, 1)]),
        (2.3, [(0, 0), (1, 0), (0.5, 0.87)]),
    ],
)
def test_touching_disks_are_parted(apart, shape):
    radius = disk_radius(480, 640)
    points = np.array([300.0, 200.0]) + apart * radius * np.array(shape)
    found = TASKS["pose"].decode(drawn(points, (480, 640)))
    assert len(found.points) == len(shape)
    assert farthest(points, found) < 0.25 * radius


@pytest.mark.parametrize("noise", [6, 12])
def test_keypoints_survive_noise_and_upsampling(noise):
    points = [[60, 60], [200, 300], [420, 100], [610, 455]]
    colours = drawn(points, (480, 640), [(0, 1), (1, 2), (2, 3)])
    colours = cv2.resize(colours, (256, 256), interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(0)
    colours = np.clip(colours + rng.normal(0, noise / 255, colours.shape), 0, 1)
    colours = cv2.resize(colours.astype(np.float32), (640, 480), interpolation=cv2.INTER_LINEAR)
    found = TASKS["pose"].decode(colours)
    assert len(found.points) == 4
    assert farthest(points, found) < 2.0


def test_redness_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="redness must lie between 0 and 1, found 1"):
        TASKS["pose"].decode(np.zeros((8, 8, 3), np.float32), redness=1)


def test_disparity_of_depth_by_hand():
    depth = np.array([[1.0, 2.0, 4.0]], np.float32)
    np.testing.assert_allclose(disparity_from_depth(depth).values, [[1, 1 / 3, 0]], atol=1e-6)


def test_unknown_depth_is_far():
    depth = np.array([[2.0, np.nan, 0.0, 4.0]], np.float32)
    np.testing.assert_allclose(disparity_from_depth(depth).values, [[1, 0, 0, 0.5]], atol=1e-6)
    with pytest.raises(ValueError, match="no pixel is finite and positive"):
        disparity_from_depth(np.full((2, 2), np.nan, np.float32))


def test_a_floor_is_green_and_a_facing_wall_blue():
    up = np.array([[[0, -1, 0], [0, 0, -1], [-1, 0, 0]]], np.float32)  # optical: y down
    colours = TASKS["normal"].encode(Normals(up))[0]
    np.testing.assert_allclose(colours, [[0.5, 1, 0.5], [0.5, 0.5, 1], [1, 0.5, 0.5]])


def test_grey_has_no_direction_and_faces_the_camera():
    grey = np.full((1, 1, 3), 0.5, np.float32)
    np.testing.assert_array_equal(TASKS["normal"].decode(grey).vectors[0, 0], [0, 0, -1])


def test_prompts_are_the_published_ones():
    assert [task.prompt for task in TASKS.values()] == [
        "[[image2depth]]",
        "[[image2normal]]",
        "[[image2entity]]",
        "[[image2semantic]]",
        "[[image2segmentation]]",
        "[[image2pose]]",
    ]
    assert TASKS["semantic"].prompt_for("person") == "[[image2semantic]] person"
