# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from diception_ros.geometry.transforms import TransformTree

HALF = np.sqrt(0.5)
QUARTER_TURN = (0, 0, HALF, HALF)  # about z: x goes to y


@pytest.fixture
def tree():
    made = TransformTree()
    made.add("map", "base", (0, 0, 0), (0, 0, 0, 1), stamp=0)
    made.add("map", "base", (4, 0, 0), QUARTER_TURN, stamp=100)
    made.add("base", "camera", (1, 0, 0), (0, 0, 0, 1))
    return made


def test_poses_chain_and_invert(tree):
    pose = tree.pose("map", "camera", 100)
    np.testing.assert_allclose(pose @ [0, 0, 0, 1], [4, 1, 0, 1], atol=1e-12)
    back = tree.pose("camera", "map", 100)
    np.testing.assert_allclose(back @ pose, np.eye(4), atol=1e-12)


def test_between_two_times_the_pose_is_interpolated(tree):
    pose = tree.pose("map", "base", 50)
    np.testing.assert_allclose(pose[:3, 3], [2, 0, 0], atol=1e-12)
    np.testing.assert_allclose(pose[:2, 0], [HALF, HALF], atol=1e-12)  # an eighth turn


def test_outside_the_known_time_nothing_is_guessed(tree):
    assert tree.pose("map", "camera", 101) is None
    assert tree.pose("map", "camera", -1) is None
    assert tree.pose("base", "camera", 10**12) is not None  # static


def test_frames_that_nothing_connects_have_no_pose(tree):
    assert tree.pose("moon", "camera", 50) is None
    np.testing.assert_array_equal(TransformTree().pose("camera", "camera", 5), np.eye(4))


def test_the_root_is_the_top(tree):
    assert tree.root("camera") == "map"
    assert TransformTree().root("camera") == "camera"


def test_siblings_meet_below_the_root(tree):
    tree.add("base", "arm", (0, 2, 0), QUARTER_TURN)
    pose = tree.pose("arm", "camera", 10**12)  # nothing is known of map at this time
    np.testing.assert_allclose(pose[:3, 3], [-2, -1, 0], atol=1e-12)


def test_a_quaternion_without_length_is_refused():
    with pytest.raises(ValueError, match="transform of 'base' in 'map': expected finite numbers"):
        TransformTree().add("map", "base", (0, 0, 0), (0, 0, 0, 0))


def test_a_frame_in_itself_is_refused_and_its_parent_stays(tree):
    with pytest.raises(ValueError, match="transform of 'base' in itself: expected another parent"):
        tree.add("base", "base", (0, 0, 0), (0, 0, 0, 1), stamp=50)
    assert tree.root("camera") == "map"


@pytest.mark.parametrize("jump", [1000, -1000], ids=["time goes on", "time starts again"])
def test_what_is_far_from_a_frames_newest_is_forgotten(jump):
    tree = TransformTree(keep=100)
    tree.add("base", "camera", (1, 0, 0), (0, 0, 0, 1))
    for stamp in (0, 60, jump, jump + 60):
        tree.add("map", "base", (0, 0, 0), (0, 0, 0, 1), stamp)
    assert tree.pose("map", "camera", 30) is None
    assert tree.pose("map", "camera", jump + 30) is not None
