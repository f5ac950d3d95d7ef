# SPDX-License-Identifier: Apache-2.0
"""Several cameras on one engine, in a second node beside the one of the other tests."""

from __future__ import annotations

import logging
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from diception_ros.msg import FrameReport, PointPrompts
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, Image

from diception_ros.ros.batch import Batch, InForce
from diception_ros.ros.camera import stamp_ns
from diception_ros.ros.parameters import from_values

SIZES = {"front": (24, 32), "left": (40, 20), "right": (24, 32)}
REPORTS = {camera: f"~/{camera}/frame_report" for camera in SIZES}


@pytest.fixture(scope="module")
def fleet(bundle, start_node):
    parameters = {
        "bundle": bundle,
        "device": "cpu",
        "cameras": "[front, left, right]",
        "batch_wait": 1.0,
        "tasks": "[depth, point]",
        "front.scale.source": "fixed",
        "front.scale.fixed.scale": 2.0,
        "right.scale.source": "fixed",
        "right.output.width": 16,
        "right.output.height": 12,
    }
    prompts = {f"{camera}/point_prompts": "/clicks" for camera in ("front", "right")}
    remappings = {"front/image": "front/image_raw", **prompts}
    silent = "degraded: front: /fleet/front/image_raw: no image yet"
    with start_node("/fleet/eyes", parameters, remappings, silent) as peer:
        yield peer


@pytest.fixture
def show(fleet, image_of, info):
    """Publishes one image of some cameras with their camera infos; stamps by camera."""

    def publish(*cameras, **images):
        stamps = {}
        for camera in cameras or SIZES:
            image = images.get(camera) or image_of(np.full((*SIZES[camera], 3), 90, np.uint8))
            fleet.stamp(image, f"{camera}_optical")
            info.header = image.header
            fleet.publish(f"/fleet/{camera}/camera_info", info)
            name = "image_raw" if camera == "front" else "image"
            fleet.publish(f"/fleet/{camera}/{name}", image)
            stamps[camera] = stamp_ns(image.header)
        return stamps

    return publish


@pytest.fixture
def hear(fleet):
    """Subscribes as long as the test runs; what came, by topic."""
    heard = []

    def subscribe(topics):
        for topic, kind in topics.items():
            fleet.hear(topic, kind)
            heard.append(topic)
        return fleet.received

    yield subscribe
    fleet.deafen(*heard)


def until_answered(fleet, show, cameras, topic="disparity_relative/image"):
    """Shows until each of these cameras has an answer to an image shown here; the answers."""
    for camera in cameras:
        fleet.received[f"~/{camera}/{topic}"].clear()
    shown = {camera: set() for camera in SIZES}

    def answered():
        for camera, stamp in show().items():
            shown[camera].add(stamp)
        found = {
            camera: [
                message
                for message in fleet.received[f"~/{camera}/{topic}"]
                if stamp_ns(message.header) in shown[camera]
            ]
            for camera in cameras
        }
        return {camera: messages[-1] for camera, messages in found.items() if messages}

    return fleet.wait(lambda: len(found := answered()) == len(cameras) and found)


def test_cameras_share_a_pass_and_nothing_else(fleet, show, hear):
    topics = {f"~/{camera}/disparity_relative/image": Image for camera in SIZES}
    received = hear({**topics, **dict.fromkeys(REPORTS.values(), FrameReport)})
    answers = until_answered(fleet, show, SIZES)
    for camera, size in {**SIZES, "right": (12, 16)}.items():
        assert answers[camera].header.frame_id == f"{camera}_optical"
        assert (answers[camera].height, answers[camera].width) == size

    def common():
        show()
        return [report for report in received[REPORTS["left"]] if report.batch == 3]

    report = fleet.wait(common)[0]
    assert "other cameras" in report.stages
    assert report.header.frame_id == "left_optical"


def test_each_camera_has_its_scale_and_intrinsics(fleet, show, hear):
    cameras = ("front", "right")
    assert fleet.node.count_publishers("/fleet/eyes/left/depth/image") == 0
    received = hear({f"~/{camera}/depth/camera_info": CameraInfo for camera in cameras})
    hear({f"~/{camera}/depth/image": Image for camera in cameras})
    until_answered(fleet, show, cameras, "depth/image")
    fleet.wait(lambda: show() and all(received[f"~/{c}/depth/camera_info"] for c in cameras))
    assert received["~/front/depth/camera_info"][-1].k[0] == 30.0
    assert received["~/right/depth/camera_info"][-1].k[0] == 15.0
    assert fleet.set(left__scale__source="fixed") == ""
    hear({"~/left/depth/image": Image})
    until_answered(fleet, show, ("left",), "depth/image")
    assert fleet.set(left__scale__source="none") == ""
    fleet.wait(lambda: fleet.node.count_publishers("/fleet/eyes/left/depth/image") == 0)


def test_what_the_cameras_have_for_themselves_is_not_set_for_the_node(fleet):
    assert "max_rate: each camera has its own, set for example front.max_rate" in fleet.set(
        max_rate=5.0
    )
    assert "camera left: min_depth 99 m must be less" in fleet.set(left__min_depth=99.0)
    assert "left.image_transport takes effect at configure" in fleet.set(
        left__image_transport="compressed"
    )


def test_each_camera_has_its_rate_and_counts_its_drops(fleet, show, hear):
    assert fleet.set(left__max_rate=0.01) == ""
    hear({f"~/{camera}/disparity_relative/image": Image for camera in SIZES})
    fleet.wait(lambda: show() and int(fleet.health("left")[1].get("dropped: max_rate", 0)) > 3)
    assert int(fleet.health("front")[1]["dropped: max_rate"]) == 0
    until_answered(fleet, show, ("front", "right"))
    assert fleet.set(left__max_rate=0.0) == ""


def test_each_camera_is_asked_about_its_own_points(fleet, show, hear):
    received = hear({f"~/{camera}/point/mask": Image for camera in SIZES})
    fleet.publish("/fleet/left/point_prompts", PointPrompts(x=[3.0], y=[35.0]))
    fleet.wait(lambda: show() and received["~/left/point/mask"])
    assert received["~/front/point/mask"] == received["~/right/point/mask"] == []


def test_points_on_a_common_topic_are_for_the_camera_whose_frame_they_name(fleet, show, hear):
    """No mistake of the other's; on a camera's own topic it is one."""
    received = hear({f"~/{camera}/point/mask": Image for camera in SIZES})
    hear({f"~/{camera}/disparity_relative/image": Image for camera in SIZES})
    prompts = PointPrompts(x=[3.0], y=[5.0])
    prompts.header.frame_id = "right_optical"
    fleet.publish("/clicks", prompts)
    fleet.wait(lambda: show() and received["~/right/point/mask"])
    until_answered(fleet, show, ("front",))
    assert received["~/front/point/mask"] == []
    assert not fleet.log.having("/clicks")
    fleet.publish("/fleet/left/point_prompts", prompts)
    wrong = "the points are for the frame 'right_optical', but the images come in 'left_optical'"
    fleet.wait(lambda: show() and fleet.log.having("/fleet/left/point_prompts", wrong))
    for topic in ("/clicks", "/fleet/left/point_prompts"):
        fleet.publish(topic, PointPrompts())


def test_a_camera_that_dies_returns_or_changes_leaves_the_others_alone(fleet, show, hear, image_of):
    hear({f"~/{camera}/disparity_relative/image": Image for camera in SIZES})
    until_answered(fleet, show, SIZES)

    def silent():
        show("front", "right")
        return "no image for" in fleet.health("left")[0]

    fleet.wait(silent)
    assert "left: /fleet/left/image: no image for" in fleet.health()[0]
    assert "no image" not in fleet.health("front")[0]
    broken = image_of(np.zeros((24, 32, 3), np.uint8), data=b"123")
    fleet.wait(lambda: show(left=broken) and "truncated image" in fleet.health("left")[0])
    until_answered(fleet, show, ("front", "right"))
    larger = lambda: image_of(np.zeros((50, 60, 3), np.uint8))  # noqa: E731
    received = fleet.received["~/left/disparity_relative/image"]
    fleet.wait(lambda: show(left=larger()) and received and received[-1].height == 50)
    until_answered(fleet, show, SIZES)


def test_a_camera_ten_times_as_fast_gets_no_more_than_the_others_under_overload(fleet, show, hear):
    received = hear(dict.fromkeys(REPORTS.values(), FrameReport))
    hear({f"~/{camera}/disparity_relative/image": Image for camera in SIZES})
    assert fleet.set(cameras_per_pass=1, depth__steps=30) == ""
    until_answered(fleet, show, SIZES)
    for topic in REPORTS.values():
        received[topic].clear()
    shown = Counter()

    def answered():
        shown["front"] += 1
        show(*(SIZES if shown["front"] % 10 == 0 else ["front"]))
        return sum(len(received[topic]) for topic in REPORTS.values()) >= 15

    fleet.wait(answered)
    counts = {camera: len(received[topic]) for camera, topic in REPORTS.items()}
    busy = {camera: fleet.health(camera)[1]["dropped: newer frame"] for camera in SIZES}
    print(f"answers {counts} to {shown['front']} fast images; newer frames won: {busy}")
    assert fleet.set(cameras_per_pass=0, depth__steps=0) == ""
    assert counts["front"] <= 2 + max(counts["left"], counts["right"])


def test_two_nodes_live_side_by_side(fleet, peer, show, hear, image_of, picture):
    """Another namespace, other topics, one domain: each answers its own images."""
    hear({"~/left/disparity_relative/image": Image})
    answer = until_answered(fleet, show, ("left",))["left"]
    other = peer.ask(image_of(picture), {"~/disparity_relative/image": Image})
    assert answer.header.frame_id == "left_optical"
    assert other["~/disparity_relative/image"].header.frame_id == "camera_optical_frame"
    names = {(name, space) for name, space in peer.node.get_node_names_and_namespaces()}
    assert {("diception", "/robot"), ("eyes", "/fleet")} <= names


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("overlap", [False, True])
def test_the_only_faulty_frame_of_a_pass_fails_alone(overlap, late):
    """An error of the common pass, when it begins or late when it ends, is repeated for each camera
    alone."""
    passes, finished, failed = [], [], []

    def ended(images):
        if any(image == "bad" for image in images):
            raise RuntimeError("boom")
        return SimpleNamespace(results=[[image] for image in images])

    def begin(images, requests, seed, options, streams):
        assert len(streams) == len(images)
        passes.append(len(images))
        outcome = None if late else ended(images)
        return SimpleNamespace(outcome=lambda: outcome or ended(images))

    def pipeline(camera, image):
        asked = SimpleNamespace(frame=SimpleNamespace(rgb=image), requests=[], epoch=0)
        return SimpleNamespace(
            prepare=lambda incoming, parameters: asked,
            finish=lambda asked, results, outcome: finished.append((camera, results)),
        )

    pipelines = {"a": pipeline("a", "x"), "b": pipeline("b", "bad"), "c": pipeline("c", "z")}
    engine = SimpleNamespace(begin=begin, adapters={})
    parameters = from_values({"cameras": list(pipelines), "overlap": overlap})
    batch = Batch(
        engine,
        pipelines,
        lambda: InForce(parameters, {}),
        lambda camera, error: failed.append((camera, str(error))),
    )
    batch.handle([("a", None), ("b", None), ("c", None)])
    batch.close()
    assert passes == [3, 1, 1, 1]
    assert finished == [("a", ["x"]), ("c", ["z"])]
    assert failed == [("b", "boom")]


@pytest.mark.parametrize("name", ["depth", "scale", "points"])
def test_a_name_that_is_taken_fails_the_configure(new_node, bundle, caplog, name):
    node = new_node(bundle=str(bundle), device="cpu", cameras=[name])
    logging.getLogger("diception_ros").addHandler(caplog.handler)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert f"cameras: the name '{name}' belongs to other parameters or topics" in caplog.text


def test_cameras_come_and_go_with_a_configure(new_node, bundle):
    from rclpy.parameter import Parameter

    node = new_node(bundle=str(bundle), device="cpu", cameras=["a", "b"], b__max_rate=3.0)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.get_parameter("b.max_rate").value == 3.0
    topics = {publisher.topic_name for publisher in node.publishers}
    assert {"/diception/a/frame_report", "/diception/b/normals/image"} <= topics
    assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert node.set_parameters([Parameter("cameras", value=[""])])[0].successful
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert not node.has_parameter("b.max_rate")
    topics = {publisher.topic_name for publisher in node.publishers}
    assert "/diception/frame_report" in topics and "/diception/a/frame_report" not in topics
