# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from diception_ros.cli.rendered import SEED, SIZE, as_demo_frame, rendered_sequence
from diception_ros.training.cache import HELD_OUT
from diception_ros.training.scenes import Frame


@pytest.fixture(scope="module")
def sequence():
    return rendered_sequence(2)


def test_no_training_has_seen_the_room():
    assert SEED >= HELD_OUT


def test_the_truth_belongs_to_the_picture(sequence):
    first, second = sequence
    assert first.rgb.shape == (*SIZE, 3)
    assert first.sequence
    assert (first.rgb != second.rgb).mean() > 0.1
    for frame in sequence:
        assert 0.1 < np.nanmin(frame.depth_m) < np.nanmax(frame.depth_m) < 30
        length = np.linalg.norm(frame.normals, axis=-1)
        np.testing.assert_allclose(length[np.isfinite(frame.depth_m)], 1, atol=1e-3)
        assert len(np.unique(frame.ids)) > 3
        assert frame.class_names[frame.classes.max() - 1]


def test_it_is_always_the_same(sequence):
    again = rendered_sequence(1)[0]
    np.testing.assert_array_equal(again.rgb[8], rendered_sequence(1)[0].rgb[8])


def test_only_visible_joints_are_kept():
    empty = np.zeros((4, 5))
    people = (
        (3, np.array([[1.0, 2.0], [3.0, 3.0]]), np.array([True, False])),
        (7, np.array([[2.0, 2.0]]), np.array([False])),
        (9, np.array([[4.0, 1.0]]), np.array([True])),
    )
    frame = Frame(
        rgb=np.zeros((4, 5, 3), np.uint8),
        depth=empty + 1,
        normals=np.zeros((4, 5, 3)),
        instances=empty,
        categories=empty,
        intrinsics=(1.0, 1.0, 2.0, 2.0),
        keypoints=people,
    )
    found = as_demo_frame(frame, 0, ["chair"])
    assert found.keypoints.tolist() == [[1, 2], [4, 1]]
    assert found.people.tolist() == [3, 9]
