# SPDX-License-Identifier: Apache-2.0
"""The end of a node while a frame is in work."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import rclpy
from rclpy.exceptions import InvalidHandle
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from diception_ros.engine import EMBEDDED_BUNDLE
from diception_ros.ros.content import FRAME_REPORT, Content
from diception_ros.ros.session import loader

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


def test_ctrl_c_soon_after_a_cleanup(start_node, image_of, picture):
    """The frame in work goes on in torch, and a process that ends under it crashes."""
    parameters = {
        "bundle": EMBEDDED_BUNDLE,
        "device": "cpu",
        "tasks": "[depth]",
        "depth.steps": 8,
        "compute_always": True,
    }
    with start_node("/robot/ending", parameters, {"image": "camera/image"}) as peer:
        peer.ask(image_of(picture), {"~/disparity_relative/image": Image})
        peer.show(image_of(picture))
        time.sleep(0.3)
        assert peer.change("deactivate")
        assert peer.change("cleanup")
        peer.process.send_signal(signal.SIGINT)
        peer.process.wait(20)


LONG_LOAD = """
import os, signal, sys, threading, time
import torch
from diception_ros.ros import node, session

begun = threading.Event()

def load(progress):
    begun.set()
    while True:
        torch.ones(256, 256) @ torch.ones(256, 256)

def interrupt():
    begun.wait()
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)

session.loader, node.EXIT_PATIENCE = lambda *given: load, 0.2
threading.Thread(target=interrupt, daemon=True).start()
node.main(["--ros-args", "-p", f"bundle:={sys.argv[1]}", "-p", "device:=cpu"])
"""


def test_ctrl_c_amid_a_load_that_takes_longer_than_anyone_waits():
    done = subprocess.run(
        [sys.executable, "-c", LONG_LOAD, str(EMBEDDED_BUNDLE)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "the work in hand did not end within 0.2 s" in done.stderr


def test_the_end_waits_for_loads_that_were_given_up(new_node, bundle, monkeypatch):
    def slow(*given):
        load = loader(*given)
        return lambda progress: (time.sleep(1), load(progress))[1]

    monkeypatch.setattr("diception_ros.ros.session.loader", slow)
    node, loads = new_node(bundle=str(bundle), device="cpu"), []
    for give_up in (node.trigger_cleanup, node.trigger_cleanup, node.trigger_shutdown):
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        loads.append(node._session.loading)
        assert give_up() == TransitionCallbackReturn.SUCCESS
    assert not any(load.join(0) for load in loads)
    node.destroy_node()
    assert all(load.join(0) for load in loads)


def test_no_load_begins_before_the_last_one_is_given_up(new_node, bundle, monkeypatch):
    """A GPU with room for one engine may have none for two."""
    begun, alive = threading.Event(), []

    def counted(*given):
        load = loader(*given)

        def run(progress):
            alive.append(len(alive))  # how many there were
            begun.set()
            time.sleep(0.5)
            engine = load(progress)
            close = engine.close
            engine.close = lambda: (close(), alive.clear())
            return engine

        return run

    monkeypatch.setattr("diception_ros.ros.session.loader", counted)
    node = new_node(bundle=str(bundle), device="cpu")
    for _ in range(3):
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert begun.wait(60)
        assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    loading = node._session.loading
    assert loading.join(60)
    assert (loading.state, alive) == ("ready", [0])


@pytest.fixture
def busy(new_node, bundle, image_of, picture, info):
    """A node that has much to do for each frame, and what shows it images until it has answered so
    many, or until something else; gives the stamp of the last, in seconds."""
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
    stamp = 0

    def answered():
        return sum(notes.statistics.snapshot()["answered"] for notes in node._notes.values())

    def work(frames=0, until=None):
        nonlocal stamp
        wanted, end = answered() + frames, time.monotonic() + 60
        while not until() if until else answered() < wanted:
            assert time.monotonic() < end
            if node._session.loading.state == "ready":
                stamp += 1
                for publisher, message in topics.items():
                    message.header.stamp.sec = stamp
                    publisher.publish(message)
            for _ in range(len(topics) + 1):  # both messages and what the node has to say
                executor.spin_once(timeout_sec=0.02)
        return stamp

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


def test_a_frame_of_before_a_pause_is_not_published_after_it(busy, monkeypatch):
    node, work = busy
    topic, heard = "/diception/disparity_relative/image", []
    ears = rclpy.create_node("ears", context=node.context)
    ears.create_subscription(Image, topic, heard.append, 10)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(ears)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    (publisher,) = [item for item in node.publishers if item.topic_name == topic]
    work(until=lambda: publisher.get_subscription_count() == 1 and node._session._workers)
    begun, go_on = threading.Event(), threading.Event()
    engine, (worker,) = node._session.loading.engine, node._session._workers
    begin = engine.begin

    def slow(*given):
        begun.set()
        assert go_on.wait(60)
        return begin(*given)

    monkeypatch.setattr(engine, "begin", slow)
    last = work(until=begun.is_set)
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    for _ in range(20):  # what was published before
        executor.spin_once(timeout_sec=0.05)
    heard.clear()
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    go_on.set()
    assert worker.join(60)
    work(frames=1)
    end = time.monotonic() + 60
    while not any(message.header.stamp.sec > last for message in heard):
        assert time.monotonic() < end
        executor.spin_once(timeout_sec=0.1)
    assert [message.header.stamp.sec for message in heard if message.header.stamp.sec <= last] == []


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


def test_a_parameter_file_that_is_not_there_is_one_line():
    asked = ["--ros-args", "--params-file", "nowhere.yaml"]
    node = [sys.executable, "-m", "diception_ros.ros.node", *asked]
    done = subprocess.run(node, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "diception_node: failed to initialize rcl: Couldn't parse params file" in done.stderr
