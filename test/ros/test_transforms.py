# SPDX-License-Identifier: Apache-2.0
"""Against tf2 itself, where it is installed: the live listener, and the offline tree beside it. And
what the node does with it, with a stand-in."""

from __future__ import annotations

import os
import sys
import threading
import time
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.time import Time
from scipy.spatial.transform import Rotation
from std_msgs.msg import String
from std_srvs.srv import Empty

from diception_ros.geometry.transforms import TransformTree
from diception_ros.ros.transforms import Transforms

SECOND = 10**9
DOMAIN = 101 + os.getpid() % 100
CHAIN = ("map", "odom", "base", "mast", "camera")


@pytest.fixture
def tf2_ros():
    return pytest.importorskip("tf2_ros", reason="needs tf2_ros, which is not on PyPI")


@pytest.fixture
def talking():
    """A node that listens and another, spun by a thread."""
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node("listener", context=context)
    other = rclpy.create_node("robot", context=context)
    executor = SingleThreadedExecutor(context=context)
    for one in (node, other):
        executor.add_node(one)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield node, other
    executor.shutdown()
    rclpy.shutdown(context=context)
    thread.join(10)


def transform(parent, child, stamp, place, turn):
    found = TransformStamped()
    found.header.frame_id, found.child_frame_id = parent, child
    found.header.stamp = Time(nanoseconds=stamp).to_msg()
    move, rotation = found.transform.translation, found.transform.rotation
    move.x, move.y, move.z = (float(value) for value in place)
    rotation.x, rotation.y, rotation.z, rotation.w = (float(value) for value in turn)
    return found


def test_the_tree_knows_what_tf2_knows(tf2_ros):
    """Random poses of a chain of which the mast is fixed, at times between, on and beyond them."""
    rng, buffer, tree = np.random.default_rng(0), tf2_ros.Buffer(), TransformTree()
    for parent, child in pairwise(CHAIN):
        fixed = child == "mast"
        for stamp in [0] if fixed else 100 * SECOND + np.arange(20) * SECOND // 10:
            place, turn = rng.normal(size=3), Rotation.random(random_state=rng).as_quat()
            tree.add(parent, child, place, turn, None if fixed else int(stamp))
            given = transform(parent, child, int(stamp), place, turn)
            (buffer.set_transform_static if fixed else buffer.set_transform)(given, "test")
    known = 0
    for stamp in (*rng.integers(99.9 * SECOND, 102 * SECOND, 40), 100 * SECOND, 101 * SECOND):
        target, source = rng.choice(CHAIN, 2, replace=False)
        mine = tree.pose(target, source, int(stamp))
        try:
            theirs = buffer.lookup_transform(target, source, Time(nanoseconds=int(stamp)))
        except tf2_ros.ExtrapolationException:
            assert mine is None
            continue
        known += 1
        move, turn = theirs.transform.translation, theirs.transform.rotation
        np.testing.assert_allclose(mine[:3, 3], (move.x, move.y, move.z), atol=1e-6)
        given = Rotation.from_quat((turn.x, turn.y, turn.z, turn.w)).as_matrix()
        np.testing.assert_allclose(mine[:3, :3], given, atol=1e-6)
    assert 25 < known < 42


def test_the_listener_hears_tf_and_says_what_is_missing(tf2_ros, talking, monkeypatch):
    monkeypatch.setattr("diception_ros.ros.transforms.AGAIN", 0.0)
    node, other = talking
    moving = tf2_ros.TransformBroadcaster(other)
    fixed = tf2_ros.StaticTransformBroadcaster(other)
    fixed.sendTransform(transform("base", "camera", 0, (0, 0, 1.2), (-0.5, 0.5, -0.5, 0.5)))
    poses, begun = Transforms(node), other.get_clock().now().nanoseconds
    middle, found = Time(nanoseconds=begun + SECOND // 2).to_msg(), None

    def send(after):
        place = (after / SECOND, 0, 0)
        moving.sendTransform(transform("odom", "base", begun + after, place, (0, 0, 0, 1)))

    end = time.monotonic() + 30
    while found is None and time.monotonic() < end:
        for after in (0, SECOND):
            send(after)
        try:
            found = poses("odom", "camera", middle)
        except ValueError as error:
            missing = str(error)
            time.sleep(0.1)
    assert found is not None, missing
    assert found[:3] == pytest.approx((0.5, 0.0, 1.2))
    assert abs(np.dot(found[3:], (-0.5, 0.5, -0.5, 0.5))) == pytest.approx(1)  # q is -q
    with pytest.raises(ValueError, match="no transform from 'lidar' to 'odom': "):
        poses("odom", "lidar", middle)
    late = Time(nanoseconds=begun + 2 * SECOND).to_msg()
    with pytest.raises(ValueError, match="into the future"):
        poses("odom", "camera", late)
    monkeypatch.setattr("diception_ros.ros.transforms.PATIENCE", 30)
    threading.Timer(0.2, send, [2 * SECOND]).start()
    assert poses("odom", "camera", late)[:3] == pytest.approx((2.0, 0.0, 1.2))


class UntimelyError(Exception):
    """As tf2_ros.ExtrapolationException."""


class Buffer:
    """As tf2_ros.Buffer: a service, and poses from `since` (time.monotonic() seconds) on."""

    since = 0.0

    def __init__(self, node):
        self.srv = node.create_service(Empty, "tf2_frames", lambda _, answer: answer)

    def lookup_transform(self, target, source, stamp):
        if source != "camera":
            raise LookupError(f"{source} does not exist")
        if time.monotonic() < self.since:
            raise UntimelyError("into the future")
        return transform(target, source, 0, (1, 2, 3), (0, 0, 0, 1))


class Listener:
    """As tf2_ros.TransformListener: the node has its callback, so it lives as long as the node."""

    def __init__(self, buffer, node):
        node.create_subscription(String, "/tf", self.callback, 100)

    def callback(self, message):
        pass


@pytest.fixture
def stand_in(monkeypatch):
    module = SimpleNamespace(
        Buffer=Buffer, TransformListener=Listener, ExtrapolationException=UntimelyError
    )
    monkeypatch.setitem(sys.modules, "tf2_ros", module)


def test_a_node_has_one_listener_however_often_it_is_configured(stand_in, new_node, bundle):
    node = new_node(bundle=str(bundle), device="cpu")
    for _ in range(3):
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        found = node._session._find_pose("map", "camera", Time().to_msg())
        assert found == (1, 2, 3, 0, 0, 0, 1)
        assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
        assert [one.topic_name for one in node.subscriptions].count("/tf") == 1
        assert sum(one.srv_name.endswith("tf2_frames") for one in node.services) == 1


def test_a_pose_may_come_after_its_image_but_not_for_ever(stand_in, talking, monkeypatch):
    poses, now = Transforms(talking[0]), Time().to_msg()
    monkeypatch.setattr(Buffer, "since", time.monotonic() + 0.05)
    assert poses("map", "camera", now) == (1, 2, 3, 0, 0, 0, 1)
    monkeypatch.setattr(Buffer, "since", float("inf"))
    begun = time.monotonic()
    with pytest.raises(ValueError, match="no transform from 'camera' to 'map': into the future"):
        poses("map", "camera", now)
    assert 0.1 <= time.monotonic() - begun < 5


def test_where_odometry_has_died_not_every_image_waits(stand_in, talking, monkeypatch):
    poses, waits, now = Transforms(talking[0]), [], Time().to_msg()
    monkeypatch.setattr(Buffer, "since", float("inf"))
    monkeypatch.setattr("diception_ros.ros.transforms.PATIENCE", 0.5)
    for again in (60.0, 60.0, 0.0):
        monkeypatch.setattr("diception_ros.ros.transforms.AGAIN", again)
        if not again:
            poses._waits_from.clear()  # a minute later
        begun = time.monotonic()
        with pytest.raises(ValueError, match="into the future"):
            poses("map", "camera", now)
        waits.append(time.monotonic() - begun)
    assert waits[0] >= 0.5
    assert waits[1] < 0.4
    assert waits[2] >= 0.5


def test_a_frame_that_nobody_knows_is_not_waited_for(stand_in, talking, monkeypatch):
    monkeypatch.setattr("diception_ros.ros.transforms.PATIENCE", 30)
    begun = time.monotonic()
    with pytest.raises(ValueError, match="no transform from 'lidar' to 'map': lidar does not"):
        Transforms(talking[0])("map", "lidar", Time().to_msg())
    assert time.monotonic() - begun < 5
