# SPDX-License-Identifier: Apache-2.0
"""The end of a node while a frame is in work."""

from __future__ import annotations

import logging
import signal
import time

import numpy as np
import pytest
import rclpy
from rclpy.exceptions import InvalidHandle
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from diception_ros.ros.content import FRAME_REPORT, Content

LARGE = {
    "~/disparity_relative/image": Image,
    "~/normals/image": Image,
    "~/normals/image_color": Image,
    "~/depth/image_color": Image,
    "~/points": PointCloud2,
}
"""What a frame publishes after its camera info, which is small and so is heard at once."""


@pytest.fixture
def large(image_of, picture, info):
    """An image of 960 x 720 pixels and its camera info."""
    info.width, info.height = 960, 720
    info.k[[0, 4]] = info.p[[0, 5]] = 900.0
    info.k[[2, 5]] = info.p[[2, 6]] = 480.0, 360.0
    return image_of(np.tile(picture, (30, 30, 1))), info


@pytest.mark.parametrize(
    "signals",
    [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM,)],
    ids=["SIGINT, then SIGTERM as ros2 launch", "SIGTERM"],
)
def test_a_signal_in_the_middle_of_publishing(start_node, bundle, large, signals):
    parameters = {
        "bundle": bundle,
        "device": "cpu",
        "scale.source": "fixed",
        "tasks": "[depth, normal]",
    }
    with start_node("/robot/ending", parameters, {"image": "camera/image"}) as peer:
        ears = rclpy.create_node("ears", context=peer.node.context)  # never spins: nobody hurries
        for topic, kind in LARGE.items():
            ears.create_subscription(kind, topic.replace("~", peer.name), print, 10)
        peer.ask(large[0], {"~/depth/camera_info": CameraInfo}, large[1])
        for one in signals:
            peer.process.send_signal(one)
            time.sleep(0.5)  # the node is ending meanwhile
        peer.process.wait(20)


@pytest.fixture
def busy(new_node, bundle, image_of, picture, info):
    """A node that has much to do for each frame, and what shows it images until it has answered so
    many."""
    node = new_node(
        bundle=str(bundle),
        device="cpu",
        scale__source="fixed",
        confidence_seeds=2,
        compute_always=True,
    )
    camera = rclpy.create_node("camera", context=node.context)
    topics = {
        camera.create_publisher(CameraInfo, "/camera_info", 10): info,
        camera.create_publisher(Image, "/image", 10): image_of(np.tile(picture, (10, 10, 1))),
    }
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    stamps = iter(range(1, 10**9))

    def answered():
        return sum(notes.statistics.snapshot()["answered"] for notes in node._notes.values())

    def work(frames):
        wanted, end = answered() + frames, time.monotonic() + 60
        while answered() < wanted:
            assert time.monotonic() < end
            if node._session.loading.state == "ready":
                stamp = next(stamps)
                for publisher, message in topics.items():
                    message.header.stamp.sec = stamp
                    publisher.publish(message)
            for _ in range(len(topics) + 1):  # both messages and what the node has to say
                executor.spin_once(timeout_sec=0.02)

    return node, work


def test_a_cleanup_lets_the_frame_in_work_have_its_engine(busy, caplog):
    node, work = busy
    logging.getLogger("diception_ros").addHandler(caplog.handler)
    for _ in range(8):
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        work(frames=2)
        session = node._session
        assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
        assert session.join(20)
    assert "a frame failed" not in caplog.text


def test_ros_may_be_ended_by_others_under_a_frame(new_node, bundle):
    """As rclpy's own signal handlers do in a process that is not ours."""
    node = new_node(bundle=str(bundle), device="cpu")
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    session = node._session
    publishers, report = session.streams[""].topics_out, Content(FRAME_REPORT)
    rclpy.shutdown(context=node.context)
    publishers.publish_report(report)
    assert publishers.wanted(session.settings) == []


def test_an_error_while_ros_lasts_is_not_swallowed(new_node, bundle):
    node = new_node(bundle=str(bundle), device="cpu")
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    publishers, report = node._session.streams[""].topics_out, Content(FRAME_REPORT)
    for publisher in node.publishers:
        publisher.destroy()
    with pytest.raises(InvalidHandle):
        publishers.publish_report(report)
