# SPDX-License-Identifier: Apache-2.0
"""The live node and `diception bag` answer the same frames alike, bit for bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from diception_ros.msg import PointPrompts
from rclpy.serialization import serialize_message
from recorded import Line, picture
from rosbags.rosbag2 import StoragePlugin, Writer

from diception_ros.evaluation.offline.definitions import typestore
from diception_ros.evaluation.offline.frames import LABELS_TOPIC, offered
from diception_ros.evaluation.offline.plan import Plan
from diception_ros.evaluation.offline.run import Run, load
from diception_ros.ros.native import class_of

CAMERA, INFO, PROMPTS = "/robot/camera/image", "/robot/camera/camera_info", "/robot/point_prompts"
NODE = "/robot/diception"
TIMED = {"durations", "age_ms", "dropped"}
"""Of the FrameReport: how long it took is another matter."""


def plain(message):
    """A rosbags message as values that compare, arrays by their bits."""
    if dataclasses.is_dataclass(message):
        return {
            field.name: plain(getattr(message, field.name))
            for field in dataclasses.fields(message)
            if field.name not in TIMED
        }
    if isinstance(message, np.ndarray):
        return message.dtype.str, message.tobytes()
    return [plain(item) for item in message] if isinstance(message, list) else message


def recorded(message, kind):
    """An rclpy message through its serialized bytes, as a recorder sees it."""
    return typestore().deserialize_cdr(serialize_message(message), kind)


def nanoseconds(header):
    return header.stamp.sec * 10**9 + header.stamp.nanosec


@pytest.fixture
def settings(bundle):
    """Those of the node under test."""
    return {"bundle": str(bundle), "device": "cpu", "scale.source": "fixed"}


def test_one_bag_through_both(peer, image_of, info, settings, tmp_path):
    engine, parameters = load(settings, lambda _: None)
    kinds = [item for item in offered(parameters, engine.tasks) if item[0] != LABELS_TOPIC]
    topics = {f"~/{topic}": class_of(kind) for topic, kind in kinds}
    info.p[3] = -4.5  # a right camera of a stereo pair
    live, lines = {}, []
    for number in range(3):
        image = image_of(picture(number, (24, 32) if number else (12, 16)))
        prompts = PointPrompts(x=[3.0 + number], y=[5.0])

        def whole(answers):
            at = nanoseconds(answers["~/frame_report"].header)
            both = peer.received["~/instances"]
            return sum(nanoseconds(one.header) == at for one in both) == 2

        answers = peer.ask(image, topics, info, [(PROMPTS, prompts)], until=whole)
        at = nanoseconds(answers["~/frame_report"].header)
        for topic, kind in kinds:
            live[topic, at] = [
                plain(recorded(one, kind))
                for one in peer.received[f"~/{topic}"]
                if nanoseconds(one.header) == at
            ]
        for message in (image, info, prompts):
            message.header = answers["~/frame_report"].header
        for topic, message in ((PROMPTS, prompts), (INFO, info), (CAMERA, image)):
            package = type(message).__module__.split(".")[0]
            kind = f"{package}/msg/{type(message).__name__}"
            lines.append(Line(topic, kind, at, serialize_message(message)))
    peer.publish(PROMPTS, PointPrompts())

    write(tmp_path / "bag", lines)
    out = tmp_path / "out.mcap"
    plan = Plan((tmp_path / "bag",), out, parameters, CAMERA, prompts=PROMPTS, node=NODE)
    problems = []
    Run(plan, engine, problems.append, lambda *_: None)()
    assert problems == []
    offline = read(out)
    assert len(live) == 3 * len(kinds)
    for (topic, at), messages in live.items():
        assert messages, topic
        assert offline[f"{NODE}/{topic}", at] == messages, topic
    assert len(offline) == len(live) + 1  # the class list, which the node latches with vision_msgs


def write(path, lines):
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {}
        for line in lines:
            if line.topic not in connections:
                connections[line.topic] = writer.add_connection(
                    line.topic, line.msgtype, typestore=typestore()
                )
            writer.write(connections[line.topic], line.received, line.message)


def read(path):
    """Messages by (topic, stamp), by the bag's own definitions."""
    from rosbags.highlevel import AnyReader

    found = {}
    with AnyReader([path]) as reader:
        for connection, _, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            found.setdefault((connection.topic, nanoseconds(message.header)), []).append(
                plain(message)
            )
    return found
