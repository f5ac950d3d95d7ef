# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from diception_ros.evaluation.material import (
    DemoFrame,
    load_frames,
    save_frames,
    with_point,
    with_reference,
)


def frame(**known) -> DemoFrame:
    return DemoFrame("room", np.zeros((60, 80, 3), np.uint8), "test", **known)


def test_frames_survive_the_files(tmp_path):
    depth = np.full((60, 80), 2.0, np.float32)
    full = frame(
        sequence=True,
        intrinsics=(50.0, 51.0, 40.0, 30.0),
        depth_m=depth,
        points=((3.0, 4.5),),
        classes=np.ones((60, 80), np.uint8),
        class_names=("dining table", "chair"),
    )
    save_frames([frame(), full], tmp_path)
    plain, again = load_frames(tmp_path)
    assert plain.intrinsics is None
    assert plain.points == ()
    assert again.intrinsics == (50.0, 51.0, 40.0, 30.0)
    assert again.points == ((3.0, 4.5),)
    assert (again.class_names, again.sequence) == (("dining table", "chair"), True)
    assert plain.class_names == ()
    np.testing.assert_array_equal(again.depth_m, depth)


def test_saving_replaces_the_frames_of_an_earlier_demo(tmp_path):
    save_frames([frame(), frame()], tmp_path)
    save_frames([frame()], tmp_path)
    assert len(load_frames(tmp_path)) == 1


def test_an_empty_folder_says_how_to_fill_it(tmp_path):
    with pytest.raises(ValueError, match=r"holds no demo frames .* 'diception demo'"):
        load_frames(tmp_path)


def test_reference_is_sparse_and_noisy():
    depth = np.full((200, 300), 2.0, np.float32)
    depth[:100] = np.nan
    seen = with_reference(frame(depth_m=depth), np.random.default_rng(1)).reference_m
    known = np.isfinite(seen)
    assert not known[:100].any()
    assert 0.005 < known[100:].mean() < 0.015
    assert 0.005 < np.std(seen[known] / 2.0) < 0.02


def test_point_prefers_an_object_that_stands_free():
    ids = np.zeros((60, 80), np.uint16)
    ids[30:] = 1  # larger, but it leaves the image
    ids[10:20, 20:40] = 2
    asked = with_point(frame(ids=ids))
    ((x, y),) = asked.points
    assert ids[int(y), int(x)] == 2
    np.testing.assert_array_equal(asked.point_mask, ids == 2)


def test_point_takes_the_largest_if_none_stands_free():
    ids = np.zeros((60, 80), np.uint16)
    ids[40:] = 7
    assert with_point(frame(ids=ids)).point_mask.sum() == 20 * 80
    assert with_point(frame()).points == ()
