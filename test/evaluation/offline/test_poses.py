# SPDX-License-Identifier: Apache-2.0
"""Poses from a bag's TF: between two samples, through a chain, over loops, in bounded memory."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from recorded import START, Line, Types, write

from diception_ros.evaluation.offline.poses import bag_transforms
from diception_ros.evaluation.offline.sources import opened

TF = "tf2_msgs/msg/TFMessage"
STRAIGHT = (0.0, 0.0, 0.0, 1.0)
SECOND = 10**9


def driving(seconds, speed=1.0, begin=0.0, step=0.1):
    """base drives along odom's x at `speed` m/s; times start anew, reception goes on."""
    types = Types()
    for i in range(round(seconds / step) + 1):
        at = i * step
        moved = types.transforms(
            "odom", "base", (speed * at, 0.0, 0.0), STRAIGHT, START + round(at * SECOND)
        )
        yield Line("/tf", TF, START + round((begin + at) * SECOND), moved)


def localized(seconds, ahead, begin=0.0):
    """map -> odom as AMCL gives it: dated `ahead` seconds, so that it serves until the next."""
    for i in range(round(seconds / 0.1) + 1):
        at = START + round((i * 0.1 + ahead) * SECOND)
        pose = Types().transforms("map", "odom", (5.0, 0.0, 0.0), STRAIGHT, at)
        yield Line("/tf", TF, START + round((begin + i * 0.1) * SECOND), pose)


def camera():
    mounted = Types().transforms("base", "/camera", (0.2, 0.0, 1.5), STRAIGHT)
    return Line("/tf_static", TF, START, mounted)


@contextmanager
def asking(tmp_path, lines, kind="mcap"):
    """ask(s): x and z of the camera in odom; and what was reported."""
    said = []
    with (
        opened(write(tmp_path / "bag", lines, kind)) as bag,
        bag_transforms(bag, lambda *what: said.append(what)) as poses,
    ):

        def ask(seconds):
            at = divmod(START + round(seconds * SECOND), SECOND)
            found = poses("odom", "camera", SimpleNamespace(sec=at[0], nanosec=at[1]))
            assert found[3:] == pytest.approx(STRAIGHT)
            return found[0], found[2]

        yield ask, poses, said


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
def test_a_pose_lies_between_its_neighbours(tmp_path, kind):
    lines = [camera(), *driving(3, speed=2.0)]
    with asking(tmp_path, lines, kind) as (ask, _, said):
        for seconds in (0.0, 0.05, 1.234, 2.999):
            assert ask(seconds) == pytest.approx((0.2 + 2 * seconds, 1.5))
        assert ask(1.0) == pytest.approx((2.2, 1.5))  # an image that is a little late
        with pytest.raises(ValueError, match=r"from 'camera' to 'odom' at \d+\.500 s in /tf and"):
            ask(3.5)
        assert said == []


@pytest.mark.parametrize("ahead", [None, 0.5, 2.0, 3.0])
def test_a_bag_over_loops_has_each_loops_own_poses(tmp_path, ahead):
    loops = [camera(), *driving(5, 1.0), *driving(5, 3.0, begin=5.2), *driving(5, 7.0, begin=10.4)]
    for begin in () if ahead is None else (0.0, 5.2, 10.4):
        loops += localized(5, ahead, begin)
    with asking(tmp_path, loops) as (ask, _, said):
        for speed in (1.0, 3.0, 7.0):
            for seconds in (0.0, 0.55, 2.0, 4.95, 5.0):
                assert ask(seconds)[0] == pytest.approx(0.2 + speed * seconds)
        assert said == []


@pytest.mark.parametrize("ahead", [0.0, 0.5, 2.0, 5.0, -5.0])
def test_a_frame_that_is_dated_ahead_hides_no_other(tmp_path, ahead):
    lines = [camera(), *localized(8, ahead), *driving(8)]
    with asking(tmp_path, lines) as (ask, poses, said):
        for number in range(80):
            seconds = number / 10 + 0.05
            assert ask(seconds)[0] == pytest.approx(0.2 + seconds)
            if ahead <= seconds <= 8 + ahead:
                at = divmod(START + round(seconds * SECOND), SECOND)
                found = poses("map", "base", SimpleNamespace(sec=at[0], nanosec=at[1]))
                assert found[0] == pytest.approx(5.0 + seconds)
        assert said == []


def test_a_loop_that_ends_early_is_passed_over(tmp_path):
    with asking(tmp_path, [camera(), *driving(9), *driving(9, 3.0, begin=9.2)]) as (ask, _, _):
        assert ask(4.0)[0] == pytest.approx(4.2)
        assert ask(0.5)[0] == pytest.approx(1.7)  # 5 s of the first loop were never asked for


def test_memory_does_not_grow_with_the_bag(tmp_path):
    with asking(tmp_path, [camera(), *driving(120)]) as (ask, poses, _):
        held = []
        for seconds in range(120):
            ask(seconds + 0.05)
            held.append(sum(map(len, poses._tree._moving.values())))
        assert max(held) <= 10 * (10 + 1) + 5
        assert held[-1] >= 100


def test_an_unknown_frame_is_not_looked_for_through_the_whole_bag(tmp_path):
    with asking(tmp_path, [camera(), *driving(60)]) as (ask, poses, _):
        for seconds in range(1, 40):
            with pytest.raises(ValueError, match="no transform from 'nobody' to 'odom'"):
                poses("odom", "nobody", SimpleNamespace(sec=START // SECOND + seconds, nanosec=0))
            assert sum(map(len, poses._tree._moving.values())) <= 10 * (10 + 10) + 5
            assert ask(seconds + 0.05)[0] == pytest.approx(0.25 + seconds)


def test_a_damaged_transform_is_named_and_the_rest_serves(tmp_path):
    lines = [camera(), *driving(2)]
    lines[5] = Line("/tf", TF, lines[5].received, b"\0\1\0\0\1")
    broken = Types().transforms("odom", "base", (0, 0, 0), (0, 0, 0, 0), START + SECOND + 1)
    lines.append(Line("/tf", TF, START + SECOND + 1, broken))
    with asking(tmp_path, lines) as (ask, _, said):
        assert ask(1.05)[0] == pytest.approx(1.25)
    causes = [cause for _, _, cause in said]
    assert any(cause.startswith("damaged tf2_msgs/msg/TFMessage") for cause in causes)
    assert any("expected finite numbers and a unit quaternion" in cause for cause in causes)
