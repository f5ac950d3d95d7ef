# SPDX-License-Identifier: Apache-2.0
"""Messages that need more than the table of outputs."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from rclpy.clock import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from diception_ros.ros.messages import (
    frame_report,
    image_message,
    instance_array,
    label_info,
)
from diception_ros.ros.native import class_of, native
from diception_ros.ros.parameters import from_values
from diception_ros.ros.publishers import Publishers
from diception_ros.tasks import TASKS, Instance, Instances


@pytest.mark.parametrize(
    ("kind", "channels", "encoding"),
    [
        (np.uint8, 1, "mono8"),
        (np.uint16, 1, "mono16"),
        (np.uint8, 3, "rgb8"),
        (np.float32, 1, "32FC1"),
        (np.float32, 3, "32FC3"),
    ],
)
def test_images_are_tightly_packed(kind, channels, encoding):
    shape = (4, 5) if channels == 1 else (4, 5, channels)
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    message = image_message(Header(frame_id="a"), pixels)
    assert (message.encoding, message.step) == (encoding, 5 * channels * pixels.itemsize)
    assert bytes(message.data) == pixels.tobytes()


def test_views_are_packed_too():
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)[:, ::2]
    assert bytes(image_message(Header(), pixels).data) == pixels.tobytes()


def test_a_report_names_stages_in_order():
    report = frame_report(
        Header(),
        ["depth"],
        {"queue": 1.0, "denoise": 20.5},
        age_ms=30.0,
        batch=1,
        steps=2,
        graph=False,
        dropped=3,
    )
    assert (report.stages, list(report.durations)) == (["queue", "denoise"], [1.0, 20.5])
    assert (report.tasks, report.steps, report.dropped) == (["depth"], 2, 3)


def test_label_info_lists_the_classes_with_the_background():
    info = label_info(Header(), ["cup", "bed"], 0.25)
    classes = [(item.class_id, item.class_name) for item in info.class_map]
    assert classes == [(0, "background"), (1, "cup"), (2, "bed")]
    assert info.threshold == 0.25


@pytest.fixture
def vision_msgs(monkeypatch):
    """A stand-in: the package is not on PyPI."""
    module = SimpleNamespace(LabelInfo=SimpleNamespace, VisionClass=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "vision_msgs", SimpleNamespace(msg=module))
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", module)
    class_of.cache_clear()
    yield
    class_of.cache_clear()


def test_the_class_list_follows_categories_and_threshold(vision_msgs):
    latched = []
    node = SimpleNamespace(
        create_publisher=lambda *_, **__: SimpleNamespace(publish=latched.append),
        get_clock=lambda: Clock(),
    )
    publishers = Publishers(node, lambda topic, cause: None)
    for score, categories in ((0.0, ["cup"]), (0.5, ["cup"]), (0.5, ["cup"]), (0.5, ["bed"])):
        values = {"tasks": ["semantic"], "categories": categories, "filter.instance_score": score}
        parameters = from_values(values)
        publishers.sync(parameters, TASKS)
        publishers.publish_labels(parameters)
    found = [(item.threshold, item.class_map[1].class_name) for item in latched]
    assert found == [(0.0, "cup"), (0.5, "cup"), (0.5, "bed")]


def test_contents_become_messages_whole():
    header = Header(frame_id="a")
    pixels = np.arange(6, dtype=np.uint16).reshape(2, 3)
    image = native(image_message(header, pixels))
    assert (type(image), image.header) == (Image, header)
    assert bytes(image.data) == pixels.tobytes()
    item = Instance(3, 0.5, (1, 2, 1, 1), 1, (1.0, 2.0))
    found = Instances(np.full((4, 4), 3, np.uint16), (item,))
    message = native(instance_array(header, "entity", [(-1, found)], None))
    (instance,) = message.instances
    assert (instance.id, instance.class_id, instance.x, instance.area) == (3, -1, 1, 1)
    assert (instance.position.x, instance.has_position) == (0.0, False)
    report = frame_report(
        header, ["depth"], {"queue": 1.5}, age_ms=3, batch=1, steps=2, graph=False, dropped=0
    )
    assert list(native(report).durations) == [1.5]
