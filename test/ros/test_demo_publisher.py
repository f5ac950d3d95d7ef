# SPDX-License-Identifier: Apache-2.0
"""The demo's camera, without a node: messages, files, and what it says when nobody answers."""

import json

import numpy as np
import pytest
import rclpy
from diception_ros.msg import FrameReport
from sensor_msgs.msg import Image

from diception_ros.ros import demo_publisher
from diception_ros.ros.demo_publisher import (
    Camera,
    Topics,
    View,
    image_message,
    info_message,
    load_views,
    play_at_rate,
    play_paced,
)


def view(**known) -> View:
    fields = {
        "rgb": np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3),
        "intrinsics": None,
        "reference_m": None,
        "points": np.zeros((0, 2)),
        "sequence": False,
    }
    return View(**{**fields, **known})


def test_images_are_published_byte_for_byte():
    depth = np.array([[1.5, np.nan, 2.5]], np.float32)
    message = image_message(depth, "32FC1")
    assert (message.height, message.width, message.step) == (1, 3, 12)
    np.testing.assert_array_equal(np.frombuffer(message.data, np.float32), depth[0])
    colour = image_message(view().rgb[:, ::-1], "rgb8")  # not contiguous
    assert colour.step == 24
    assert bytes(colour.data) == view().rgb[:, ::-1].tobytes()


def test_camera_info_is_zero_where_nobody_knows_the_camera():
    assert not info_message(view()).k.any()
    known = info_message(view(intrinsics=np.array([5.0, 6.0, 3.5, 2.5])))
    assert known.k.reshape(3, 3).tolist() == [[5, 0, 3.5], [0, 6, 2.5], [0, 0, 1]]
    assert known.p[[0, 2, 5, 6]].tolist() == [5, 3.5, 6, 2.5]
    assert (known.height, known.width) == (6, 8)


def test_views_are_what_the_demo_saved(tmp_path):
    depth = np.ones((6, 8), np.float32)
    np.savez(tmp_path / "b.npz", rgb=view().rgb, points=[[1.0, 2.0]], sequence=True, name="b")
    np.savez(
        tmp_path / "a.npz", rgb=view().rgb, points=(), sequence=False, reference_m=depth, name="a"
    )
    first, second = load_views(tmp_path)
    assert (first.sequence, first.points.shape, first.intrinsics) == (False, (0, 2), None)
    assert (second.sequence, second.points.tolist()) == (True, [[1.0, 2.0]])
    assert second.reference_m is None
    np.testing.assert_array_equal(first.reference_m, depth)


@pytest.fixture
def camera():
    rclpy.init(domain_id=99)
    node = Camera(Topics())
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def test_nobody_answers(camera):
    with pytest.raises(TimeoutError, match=r"no /diception/frame_report .* within 0\.2 s"):
        play_paced(camera, [view()], deadline=0.1, patience=0.2, report=lambda **_: None)


def test_every_frame_is_shown_once_when_all_are_answered(camera, monkeypatch):
    monkeypatch.setattr(Camera, "answer", lambda self, stamps, seconds: next(iter(stamps)))
    events = []
    report = lambda **event: events.append((event["phase"], event["frame"]))  # noqa: E731
    play_paced(camera, [view(), view()], deadline=1.0, patience=1.0, report=report)
    assert events == [("paced", 0), ("paced", 1)]


def test_an_answer_that_comes_after_the_next_showing_counts(camera, monkeypatch):
    monkeypatch.setattr(demo_publisher, "FIRST_RETRY", 0.2)
    reports = camera.create_publisher(FrameReport, camera.topics.frame_report, 10)
    waiting, events = [], []

    def answer() -> None:
        """The oldest; what came while that was in hand is left out."""
        if waiting:
            reports.publish(FrameReport(header=waiting[0].header))
            waiting.clear()

    camera.create_subscription(Image, camera.topics.image, waiting.append, 10)
    camera.create_timer(0.9, answer)
    play_paced(camera, [view()], 5.0, 5.0, lambda **event: events.append(event["stamp"]))
    assert set(events) < camera.answered


def test_at_a_fixed_rate_only_the_moving_camera_is_shown(camera):
    frames = [view(), view(sequence=True), view(sequence=True)]
    events = []
    play_at_rate(camera, frames, 50.0, 0.1, lambda **event: events.append(event))
    assert [event["frame"] for event in events] == [1, 2, 1, 2, 1]
    assert len({event["stamp"] for event in events}) == 5


def test_an_error_is_one_event_and_exit_one(tmp_path, capfd):
    assert demo_publisher.main(["--frames", str(tmp_path)]) == 1
    event = json.loads(capfd.readouterr().out)
    assert event["event"] == "error"
    assert "holds no demo frames" in event["text"]
