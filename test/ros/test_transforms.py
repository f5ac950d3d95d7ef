# SPDX-License-Identifier: Apache-2.0
"""Against tf2 itself, where it is installed: the live listener, and the offline tree beside it."""

from __future__ import annotations

import os
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.time import Time
from scipy.spatial.transform import Rotation

from diception_ros.geometry.transforms import TransformTree
from diception_ros.ros.transforms import Transforms

tf2_ros = pytest.importorskip("tf2_ros", reason="needs tf2_ros, which is not on PyPI")
SECOND = 10**9
DOMAIN = 101 + os.getpid() % 100
CHAIN = ("map", "odom", "base", "mast", "camera")


def transform(parent, child, stamp, place, turn):
    found = TransformStamped()
    found.header.frame_id, found.child_frame_id = parent, child
    found.header.stamp = Time(nanoseconds=stamp).to_msg()
    move, rotation = found.transform.translation, found.transform.rotation
    move.x, move.y, move.z = (float(value) for value in place)
    rotation.x, rotation.y, rotation.z, rotation.w = (float(value) for value in turn)
    return found


def test_the_tree_knows_what_tf2_knows():
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


def test_the_listener_hears_tf_and_says_what_is_missing():
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node("listener", context=context)
    other = rclpy.create_node("robot", context=context)
    executor = SingleThreadedExecutor(context=context)
    for one in (node, other):
        executor.add_node(one)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    try:
        moving = tf2_ros.TransformBroadcaster(other)
        fixed = tf2_ros.StaticTransformBroadcaster(other)
        fixed.sendTransform(transform("base", "camera", 0, (0, 0, 1.2), (-0.5, 0.5, -0.5, 0.5)))
        poses, begun = Transforms(node), other.get_clock().now().nanoseconds
        middle, found = Time(nanoseconds=begun + SECOND // 2).to_msg(), None
        end = time.monotonic() + 30
        while found is None and time.monotonic() < end:
            for after in (0, SECOND):
                place = (after / SECOND, 0, 0)
                moving.sendTransform(transform("odom", "base", begun + after, place, (0, 0, 0, 1)))
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
    finally:
        executor.shutdown()
        rclpy.shutdown(context=context)
        thread.join(10)
