# SPDX-License-Identifier: Apache-2.0
"""A bag written by hand, as the node would have: what the report makes of it."""

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from diception_ros.evaluation.demo import METRIC, PROMISED, DemoError, Shown
from diception_ros.evaluation.material import DemoFrame
from diception_ros.evaluation.page import Page, write_page
from diception_ros.evaluation.report import evaluate_demo
from diception_ros.evaluation.sheet import write_sheet
from diception_ros.evaluation.tables import tables

MS = 1_000_000
SHAPE = (30, 40)
REPORT = """
std_msgs/Header header
string[] stages
float32[] durations
bool graph_replayed
"""
POINTS = "std_msgs/Header header\nKeypoint[] keypoints"
POINT = "float32 x\nfloat32 y"
POSE = "pose/keypoints"
PROMPTS = "std_msgs/Header header\nfloat32[] x\nfloat32[] y\nuint8[] labels"
ASKED = "point/prompts"
COLOURED = [topic for topic in PROMISED if topic.endswith("image_color")]


def depth() -> np.ndarray:
    return np.linspace(1, 3, SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)


def frames() -> list[DemoFrame]:
    rgb = np.full((*SHAPE, 3), 100, np.uint8)
    facing = np.zeros((*SHAPE, 3), np.float32)
    facing[..., 2] = -1
    mask = np.zeros(SHAPE, bool)
    mask[5:20, 5:20] = True
    rendered = DemoFrame(
        "room_00",
        rgb,
        "rendered",
        sequence=True,
        depth_m=depth(),
        normals=facing,
        ids=mask.astype(np.uint16),
        points=((10.0, 10.0),),
        point_mask=mask,
        keypoints=np.array([[10, 5], [10, 25]], np.float32),
        people=np.array([3, 3]),
    )
    return [DemoFrame("photo", rgb, "somewhere"), rendered]


class HandWritten:
    """A bag under construction."""

    def __init__(self, writer):
        self.writer = writer
        self.types = get_typestore(Stores.ROS2_JAZZY)
        self.types.register(get_types_from_msg(REPORT, "diception_ros/msg/FrameReport"))
        self.types.register(get_types_from_msg(POINT, "diception_ros/msg/Keypoint"))
        self.types.register(get_types_from_msg(POINTS, "diception_ros/msg/KeypointArray"))
        self.types.register(get_types_from_msg(PROMPTS, "diception_ros/msg/PointPrompts"))
        self.connections = {}

    def add(self, topic, kind, stamp, latency_ms, **fields):
        header = self.types.types["std_msgs/msg/Header"](
            self.types.types["builtin_interfaces/msg/Time"](*divmod(stamp, 1_000_000_000)), "camera"
        )
        message = self.types.types[kind](header=header, **fields)
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(topic, kind, typestore=self.types)
        data = self.types.serialize_cdr(message, kind)
        self.writer.write(self.connections[topic], stamp + latency_ms * MS, data)

    def image(self, topic, values, encoding, stamp, latency_ms=100):
        height, width = values.shape[:2]
        data = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
        self.add(
            f"/diception/{topic}",
            "sensor_msgs/msg/Image",
            stamp,
            latency_ms,
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=data.size // height,
            data=data,
        )

    def answer(self, stamp, *, without=()):
        """Right answers to the rendered frame on every promised topic."""
        rendered = frames()[1]
        for topic in set(PROMISED) - set(without):
            if topic == POSE:
                self.add(
                    f"/diception/{POSE}",
                    "diception_ros/msg/KeypointArray",
                    stamp,
                    100,
                    keypoints=[self.types.types["diception_ros/msg/Keypoint"](x=9.0, y=6.0)],
                )
            elif topic == ASKED:
                self.add(
                    f"/diception/{ASKED}",
                    "diception_ros/msg/PointPrompts",
                    stamp,
                    100,
                    x=np.float32([10]),
                    y=np.float32([10]),
                    labels=np.uint8([1]),
                )
            elif topic in COLOURED:
                self.image(topic, np.full((*SHAPE, 3), 50, np.uint8), "rgb8", stamp)
            elif topic == "frame_report":
                self.add(
                    "/diception/frame_report",
                    "diception_ros/msg/FrameReport",
                    stamp,
                    110,
                    stages=["denoise"],
                    durations=np.array([30.0], np.float32),
                    graph_replayed=False,
                )
        arrays = {
            "disparity_relative/image": (1 / rendered.depth_m, "32FC1"),
            "depth/image": (rendered.depth_m * 1.1, "32FC1"),
            "normals/image": (rendered.normals, "32FC3"),
            "entity/mask": (rendered.ids, "mono16"),
            "point/mask": (rendered.point_mask.astype(np.uint8) * 255, "mono8"),
            "semantic/mask": (np.zeros(SHAPE, np.uint8), "mono8"),
        }
        empty = {
            name: (np.zeros(SHAPE, np.uint8), "mono8")
            for name in set(PROMISED) - set(arrays) - set(COLOURED) - {"frame_report", POSE, ASKED}
        }
        for topic, (values, encoding) in {**arrays, **empty}.items():
            if topic not in without:
                self.image(topic, values, encoding, stamp)


def recorded(path, **options):
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        bag = HandWritten(writer)
        for stamp in (1000 * MS, 2000 * MS, 3000 * MS):
            bag.answer(stamp, **options)
    return path


SHOWN = [
    Shown(0, 1000 * MS, "paced"),
    Shown(1, 2000 * MS, "paced"),
    Shown(1, 3000 * MS, "rate"),
    Shown(1, 4000 * MS, "rate"),
]


def test_figures_follow_from_the_bag(tmp_path):
    found = evaluate_demo(recorded(tmp_path / "bag"), frames(), SHOWN, 2.0, ("person",))
    figures = {(item.output, item.metric): item for item in found.summaries}
    assert figures[("depth", "delta1, affine disparity aligned")].value == 1.0
    assert figures[("metric depth", "AbsRel, metres")].value == pytest.approx(0.1, rel=1e-3)
    assert figures[("normal", "mean angle, deg")].value == pytest.approx(0.0, abs=0.05)
    assert figures[("entity", "mean best IoU")].value == 1.0
    assert figures[("point", "IoU")].value == 1.0
    assert figures[("pose", "joints found within 10%")].value == 0.5
    assert figures[("depth", "AbsRel of the best plane, to compare")].value > 0.01
    assert next(iter(figures))[0] == "depth"
    assert {item.frames for item in found.summaries} == {1}
    depth_timing = {item.output: item for item in found.timings}["depth"]
    assert (depth_timing.messages, depth_timing.rate) == (1, 0.5)
    assert depth_timing.p50 == pytest.approx(100.0)
    assert (found.shown, found.answered) == (2, 1)
    assert found.stages == {"denoise": 30.0}
    assert list(found.missing) == []


def test_pictures_are_those_of_the_bag(tmp_path):
    found = evaluate_demo(recorded(tmp_path / "bag"), frames(), SHOWN, 2.0, ("person",))
    assert [row.title for row in found.rows] == ["photo", "room 00"]
    photo, room = found.rows
    assert (photo.pictures["depth"] == 50).all()
    assert "depth, truth" not in photo.pictures
    assert "point" not in photo.pictures
    assert {"depth, truth", "normals, truth", "point"} <= set(room.pictures)
    assert {len(strip) for strip in found.film.values()} == {1}
    write_sheet(tmp_path / "sheet.png", found.rows, found.columns, "title", [])
    page = Page("title", [], found.rows, found.columns, found.film, tables(found))
    write_page(tmp_path / "index.html", page)
    assert "AbsRel, metres" in (tmp_path / "index.html").read_text()


def test_an_output_that_never_came_is_named(tmp_path):
    bag = recorded(tmp_path / "bag", without=("normals/image", "point/mask"))
    with pytest.raises(DemoError, match=r"the bag holds no message of normals/image, point/mask"):
        evaluate_demo(bag, frames(), SHOWN, 2.0, ("person",))


def test_metres_may_be_missing_and_are_said_to_be(tmp_path):
    bag = recorded(tmp_path / "bag", without=METRIC)
    found = evaluate_demo(bag, frames(), SHOWN, 2.0, ("person",))
    assert set(found.missing) == set(METRIC)
    assert "No metres came: depth/image" in tables(found)[1].note


def test_without_categories_no_semantic_output_is_missed(tmp_path):
    bag = recorded(tmp_path / "bag", without=[t for t in PROMISED if t.startswith("semantic")])
    assert "semantic" not in evaluate_demo(bag, frames(), SHOWN, 2.0).columns
    with pytest.raises(DemoError, match="semantic/mask"):
        evaluate_demo(bag, frames(), SHOWN, 2.0, ("person",))
