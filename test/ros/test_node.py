# SPDX-License-Identifier: Apache-2.0
"""What a robot relies on, over real topics, from a node in its own process."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from diception_ros.msg import FrameReport, InstanceArray, KeypointArray, PointPrompts
from geometry_msgs.msg import PointStamped
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from diception_ros.ros.camera import stamp_ns
from diception_ros.ros.qos import latched

DISPARITY = {"~/disparity_relative/image": Image}
VISION_MSGS = importlib.util.find_spec("vision_msgs") is not None
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def array_of(message):
    kinds = {"mono8": "u1", "mono16": "u2", "rgb8": "u1", "32FC1": "f4", "32FC3": "f4"}
    channels = {"rgb8": 3, "32FC3": 3}.get(message.encoding, 1)
    values = np.frombuffer(message.data, kinds[message.encoding])
    return values.reshape(message.height, message.width, channels)


def test_everything_at_once_carries_the_images_header(peer, image_of, picture, info):
    images = [
        "depth/image",
        "depth/confidence",
        "depth/image_color",
        "disparity_relative/image",
        "normals/image",
        "normals/image_color",
        "entity/mask",
        "entity/image_color",
        "semantic/mask",
        "semantic/confidence",
        "semantic/image_color",
        "point/mask",
        "pose/image_color",
    ]
    topics = {
        **{f"~/{name}": Image for name in images},
        "~/depth/camera_info": CameraInfo,
        "~/points": PointCloud2,
        "~/instances": InstanceArray,
        "~/pose/keypoints": KeypointArray,
        "~/frame_report": FrameReport,
    }
    prompts = [("/robot/point_prompts", PointPrompts(x=[16.0], y=[12.0]))]
    answers = peer.ask(image_of(picture), topics, info, prompts)
    headers = {topic: message.header for topic, message in answers.items()}
    wanted = headers["~/depth/image"]
    assert wanted.frame_id == "camera_optical_frame"
    assert all(found == wanted for found in headers.values()), headers
    sizes = {(answers[f"~/{name}"].height, answers[f"~/{name}"].width) for name in images}
    assert sizes == {(24, 32)}
    depth = array_of(answers["~/depth/image"])
    assert np.isfinite(depth).any()
    assert not (depth == 0).any()
    assert list(answers["~/depth/camera_info"].k) == list(info.k)
    report = answers["~/frame_report"]
    assert set(report.tasks) == {"depth", "normal", "entity", "semantic", "point", "pose"}
    assert report.batch == 6
    assert {"queue", "convert", "denoise", "publish"} <= set(report.stages)
    assert all(duration >= 0 for duration in report.durations)


ENCODINGS = {
    "rgb8": lambda rgb: rgb,
    "bgr8": lambda rgb: rgb[..., ::-1],
    "rgba8": lambda rgb: np.dstack([rgb, rgb[..., :1]]),
    "bgra8": lambda rgb: np.dstack([rgb[..., ::-1], rgb[..., :1]]),
    "mono8": lambda rgb: rgb[..., 0],
    "mono16": lambda rgb: rgb[..., 0].astype(np.uint16) * 257,
    "8UC1": lambda rgb: rgb[..., 0],
    "8UC3": lambda rgb: rgb,
    "16UC1": lambda rgb: rgb[..., 0].astype(np.uint16) * 257,
    "rgb16": lambda rgb: rgb.astype(np.uint16) * 257,
    "bgra16": lambda rgb: np.dstack([rgb[..., ::-1], rgb[..., :1]]).astype(np.uint16) * 257,
}
SHAPES_ONLY = {
    "bayer_rggb8": (1, np.uint8),
    "bayer_bggr8": (1, np.uint8),
    "bayer_gbrg8": (1, np.uint8),
    "bayer_grbg8": (1, np.uint8),
    "bayer_rggb16": (1, np.uint16),
    "yuv422": (2, np.uint8),
    "yuv422_yuy2": (2, np.uint8),
    "uyvy": (2, np.uint8),
    "yuyv": (2, np.uint8),
}


def colours_of(cloud):
    """The RGB bytes (H, W, 3) of a cloud with the fields x y z rgb."""
    table = np.frombuffer(cloud.data, "<u4").reshape(cloud.height, cloud.width, 4)[..., 3]
    return np.stack([table >> 16 & 255, table >> 8 & 255, table & 255], 2)


@pytest.mark.parametrize("padding", [0, 10])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_cloud_shows_the_colours_of_every_encoding(
    peer, image_of, picture, info, encoding, padding
):
    pixels = np.ascontiguousarray(ENCODINGS[encoding](picture))
    rows = pixels.view(np.uint8).reshape(24, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xCD)
    message = image_of(pixels, encoding, step=padded.shape[1], data=padded.tobytes())
    cloud = peer.ask(message, {"~/points": PointCloud2}, info)["~/points"]
    grey = pixels.ndim == 2
    wanted = np.repeat(picture[..., :1], 3, 2) if grey else picture
    assert np.abs(colours_of(cloud).astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("encoding", SHAPES_ONLY)
def test_raw_sensor_encodings_are_answered(peer, image_of, encoding):
    channels, kind = SHAPES_ONLY[encoding]
    pixels = np.full((24, 32, channels), 100, kind)
    answer = peer.ask(image_of(pixels, encoding), DISPARITY)["~/disparity_relative/image"]
    assert (answer.height, answer.width) == (24, 32)


def test_nv12_is_answered_at_the_height_of_its_luma(peer, image_of):
    message = image_of(np.full((36, 32), 100, np.uint8), "nv12", height=24, step=32)
    answer = peer.ask(message, DISPARITY)["~/disparity_relative/image"]
    assert (answer.height, answer.width) == (24, 32)


def test_big_endian_values_are_understood(peer, image_of, picture, info):
    pixels = (picture[..., 0].astype(">u2") * 257).astype(">u2")
    cloud = peer.ask(image_of(pixels, "mono16", is_bigendian=1), {"~/points": PointCloud2}, info)
    assert np.abs(colours_of(cloud["~/points"])[..., 0].astype(int) - picture[..., 0]).max() <= 1


def test_the_resolution_may_change_in_mid_stream(peer, image_of, info):
    for height, width in ((24, 32), (40, 20), (24, 32)):
        pixels = np.zeros((height, width, 3), np.uint8)
        answers = peer.ask(
            image_of(pixels), {"~/depth/image": Image, "~/depth/camera_info": CameraInfo}, info
        )
        assert (answers["~/depth/image"].height, answers["~/depth/image"].width) == (height, width)
        found = answers["~/depth/camera_info"]
        assert (found.height, found.width) == (height, width)
        assert found.k[0] == pytest.approx(30.0 * width / 32)
        assert found.p[5] == pytest.approx(30.0 * height / 24)
    peer.wait(lambda: peer.log.having("images changed from"))
    stretched = "describes images of 32x24, but they are 20x40, so positions are wrong unless"
    peer.wait(lambda: peer.log.having("/robot/camera/camera_info", stretched))


def test_the_frame_id_may_change_in_mid_stream(peer, image_of, picture):
    for frame_id in ("left_optical", "right_optical"):
        message = image_of(picture)
        message.header.frame_id = frame_id
        answer = peer.ask(message, DISPARITY)["~/disparity_relative/image"]
        assert answer.header.frame_id == frame_id


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"data": b""}, "empty image"),
        ({"data": bytes(50)}, "truncated image"),
    ],
)
def test_a_bad_image_is_named_once_and_the_node_goes_on(peer, image_of, picture, fields, text):
    peer.hear("~/disparity_relative/image", Image)
    peer.wait(lambda: peer.node.count_publishers("/robot/diception/disparity_relative/image"))
    peer.ask(image_of(picture), DISPARITY)
    peer.hear("~/disparity_relative/image", Image)
    message = image_of(picture, **fields)

    def warned():
        peer.show(message)
        return peer.log.having("/robot/camera/image", text)

    peer.wait(warned)
    for _ in range(5):
        peer.show(message)
    assert peer.ask(image_of(picture), DISPARITY)
    assert len(peer.log.having("/robot/camera/image", text)) == 1
    values = peer.until_health("degraded")
    assert int(values["dropped: bad input"]) >= 1


def test_an_image_of_nans_is_named_and_the_node_goes_on(peer, image_of, picture):
    message = image_of(np.full((24, 32), np.nan, np.float32), "32FC1")
    peer.hear("~/disparity_relative/image", Image)

    def warned():
        peer.show(message)
        return peer.log.having("/robot/camera/image", "encoding '32FC1' does not become rgb8")

    peer.wait(warned)
    assert peer.ask(image_of(picture), DISPARITY)


def test_a_damaged_reference_is_named_and_the_rest_goes_on(peer, image_of, picture, info):
    assert peer.set(scale__source="reference", scale__hold=0.0) == ""
    nothing = image_of(np.full((24, 32), np.nan, np.float32), "32FC1")
    peer.hear("~/depth/image", Image)
    answer = peer.ask(
        image_of(picture),
        DISPARITY,
        info,
        [("/robot/reference/depth", nothing)],
        lambda _: bool(peer.log.having("scale.source reference: no scale")),
    )
    assert np.isfinite(array_of(answer["~/disparity_relative/image"])).all()
    assert peer.received["~/depth/image"] == []
    assert peer.set(scale__source="fixed", scale__hold=1.0) == ""


def test_a_reference_gives_metres(peer, image_of, picture, info):
    assert peer.set(scale__source="reference", scale__max_residual=10.0) == ""
    disparity = peer.ask(image_of(picture), DISPARITY)["~/disparity_relative/image"]
    truth = (1 / (0.5 * array_of(disparity)[..., 0] + 0.3)).astype(np.float32)
    beside = [("/robot/reference/depth", image_of(truth, "32FC1"))]
    depth = peer.ask(image_of(picture), {"~/depth/image": Image}, info, beside)["~/depth/image"]
    np.testing.assert_allclose(array_of(depth)[..., 0], truth, rtol=0.05)
    assert float(peer.until_health("")["scale residual"]) < 0.05
    assert peer.set(scale__source="fixed", scale__max_residual=0.25) == ""


@pytest.mark.parametrize(
    ("focal", "text"), [(0.0, "focal length is zero"), (float("nan"), "focal length is zero")]
)
def test_a_zero_focal_length_is_named_and_the_rest_goes_on(
    peer, image_of, picture, info, focal, text
):
    info.k[0] = info.p[0] = focal
    named = ("/robot/camera/camera_info", text)
    # An image that overtakes its camera info is answered with the one before.
    peer.ask(image_of(picture), DISPARITY, info, until=lambda _: bool(peer.log.having(*named)))
    peer.hear("~/depth/image", Image)
    assert peer.ask(image_of(picture), DISPARITY, info)
    assert peer.received["~/depth/image"] == []


def test_a_deadline_that_cannot_be_held_is_counted_and_answered_all_the_same(
    peer, image_of, picture
):
    assert peer.set(deadline_ms=0.001, depth__steps=8) == ""
    report = peer.ask(
        image_of(picture),
        {**DISPARITY, "~/frame_report": FrameReport},
        until=lambda answers: answers["~/frame_report"].steps == 1,
    )["~/frame_report"]
    assert report.tasks == ["depth"]
    assert int(peer.until_health("")["deadline missed"]) > 0
    assert peer.set(deadline_ms=0.0, depth__steps=0) == ""


def test_a_temporal_start_makes_of_a_frame_shown_again_another_answer(peer, image_of, picture):
    plain = array_of(peer.ask(image_of(picture), DISPARITY)["~/disparity_relative/image"])
    assert peer.set(temporal=0.6) == ""
    peer.ask(
        image_of(picture),
        DISPARITY,
        until=lambda answers: (
            np.abs(array_of(answers["~/disparity_relative/image"]) - plain).max() > 1e-4
        ),
    )
    assert peer.set(temporal=0.0) == ""
    peer.ask(
        image_of(picture),
        DISPARITY,
        until=lambda answers: np.array_equal(
            array_of(answers["~/disparity_relative/image"]), plain
        ),
    )


def test_a_temporal_start_is_never_of_before_a_deactivation(peer, image_of, picture):
    assert peer.change("deactivate") and peer.change("activate")  # no change of format yet
    (topic,) = DISPARITY
    plain = array_of(peer.ask(image_of(picture), DISPARITY)[topic])
    assert peer.set(temporal=0.6) == ""
    peer.hear(topic, Image)
    answers = peer.received[topic]

    def differs():
        peer.show(image_of(picture))
        return answers and np.abs(array_of(answers[-1]) - plain).max() > 1e-4

    peer.wait(differs)
    assert peer.change("deactivate")
    peer.until_health("inactive")  # what was on its way has come
    answers.clear()
    assert peer.change("activate")
    peer.wait(lambda: peer.show(image_of(picture)) and answers)
    np.testing.assert_array_equal(array_of(answers[0]), plain)
    assert peer.set(temporal=0.0) == ""


def test_frames_that_overlap_are_answered_alike_and_in_order(peer, image_of, picture, info):
    topics = {"~/depth/image": Image, "~/entity/mask": Image, "~/frame_report": FrameReport}
    plain = peer.ask(image_of(picture), topics, info)
    assert "waiting" not in plain["~/frame_report"].stages
    assert peer.set(overlap=True) == ""
    found = peer.ask(
        image_of(picture),
        topics,
        info,
        until=lambda answers: "waiting" in answers["~/frame_report"].stages,
    )
    for topic in ("~/depth/image", "~/entity/mask"):
        np.testing.assert_array_equal(array_of(found[topic]), array_of(plain[topic]))
    peer.hear("~/depth/image", Image)
    shown = [peer.show(image_of(picture), info) for _ in range(20)]
    peer.wait(lambda: peer.received["~/depth/image"])
    peer.wait(lambda: stamp_ns(peer.received["~/depth/image"][-1].header) == shown[-1])
    stamps = [stamp_ns(answer.header) for answer in peer.received["~/depth/image"]]
    assert stamps == sorted(set(stamps))
    peer.deafen("~/depth/image")
    assert peer.set(overlap=False) == ""
    assert peer.ask(image_of(picture), topics, info)


def test_time_may_jump_back(peer, image_of, picture, info):
    topics = {**DISPARITY, "~/depth/camera_info": CameraInfo}
    peer.ask(image_of(picture), topics, info)
    before = len(peer.log.having("time jumped back"))
    peer.rewind()
    assert peer.ask(image_of(picture), topics, info)
    peer.wait(lambda: len(peer.log.having("time jumped back")) == before + 1)


def test_late_best_effort_and_reliable_subscribers_are_served(peer, image_of, picture):
    peer.hear("~/disparity_relative/image", Image, BEST_EFFORT)
    peer.wait(lambda: peer.show(image_of(picture)) and peer.received["~/disparity_relative/image"])
    assert peer.ask(image_of(picture), DISPARITY)


def test_nothing_is_computed_that_nobody_listens_to(peer, image_of, picture):
    report = peer.ask(image_of(picture), {"~/normals/image": Image, "~/frame_report": FrameReport})
    assert report["~/frame_report"].tasks == ["normal"]
    idle = int(peer.until_health("")["idle"])

    def more_idle():
        peer.show(image_of(picture))
        return int(peer.health()[1]["idle"]) > idle

    peer.wait(more_idle)


def test_compute_always_computes_without_listeners(peer, image_of, picture):
    assert peer.set(compute_always=True, tasks=["depth", "pose"]) == ""
    answer = peer.ask(image_of(picture), {"~/frame_report": FrameReport})
    assert answer["~/frame_report"].tasks == ["depth", "pose"]
    assert peer.set(compute_always=False, tasks=["all"]) == ""


def test_points_are_asked_by_prompt_and_by_click(peer, image_of, picture):
    message = PointStamped()
    message.point.x, message.point.y = 5.0, 6.0
    for topic, prompt in (
        ("/robot/point_prompts", PointPrompts(x=[3.0, 4.0], y=[3.0, 4.0], labels=[1, 0])),
        ("/robot/point_click", message),
    ):
        mask = peer.ask(image_of(picture), {"~/point/mask": Image}, None, [(topic, prompt)])
        assert set(np.unique(array_of(mask["~/point/mask"]))) <= {0, 255}


def test_an_answer_names_the_prompts_by_their_stamp(peer, image_of, picture, info):
    """The mask has the image's header; the prompts it answers come before it, under their own."""
    click = PointStamped()
    click.point.x, click.point.y = 7.0, 8.0
    place = PointStamped()
    place.header.frame_id = "camera_optical_frame"
    place.point.x, place.point.y, place.point.z = -0.5, -0.5, 2.0
    prompts = PointPrompts(x=[3.0, 4.0], y=[5.0, 6.0], labels=[1, 0])
    for stamp, topic, message, x in (
        (77, "/robot/point_prompts", prompts, [3.0, 4.0]),
        (88, "/robot/point_click", click, [7.0]),
        (99, "/robot/clicked_point", place, [8.0]),  # 30 * -0.5 / 2 + 15.5
    ):
        message.header.stamp.sec = stamp
        peer.publish(topic, message)
        topics = {"~/point/mask": Image}
        peer.hear("~/point/prompts", PointPrompts)

        def answered(stamp=stamp):
            return peer.received["~/point/prompts"][-1].header.stamp.sec == stamp

        mask = peer.ask(image_of(picture), topics, info, until=lambda _: answered())["~/point/mask"]
        assert mask.header.frame_id == "camera_optical_frame"
        assert list(peer.received["~/point/prompts"][-1].x) == x
    peer.publish("/robot/point_prompts", PointPrompts())


def test_a_click_in_a_frame_that_nobody_knows_is_named(peer, image_of, picture, info):
    place = PointStamped()
    place.header.frame_id = "map"
    place.point.z = 2.0
    peer.publish("/robot/clicked_point", place)
    peer.hear("~/point/mask", Image)

    def warned():
        peer.show(image_of(picture), info)
        tf2 = importlib.util.find_spec("tf2_ros") is not None
        return peer.log.having("/robot/clicked_point", "no transform" if tf2 else "TF")

    peer.wait(warned)
    peer.publish("/robot/point_prompts", PointPrompts())


def test_categories_change_at_run_time(peer, image_of, picture):
    topics = {"~/semantic/mask": Image, "~/instances": InstanceArray, "~/frame_report": FrameReport}
    for categories in (["chair", "person"], ["person"]):
        assert peer.set(categories=categories) == ""
        count = len(categories)
        # One request per category, and one for the entities, which are among the instances.
        report = peer.ask(
            image_of(picture), topics, until=lambda a, n=count: a["~/frame_report"].batch == n + 2
        )["~/frame_report"]
        assert {"semantic", "entity"} <= set(report.tasks)
    assert "'diception prompts add' adds it" in peer.set(categories=["yak"])
    assert peer.set(categories=["chair"]) == ""


@pytest.mark.parametrize(
    ("prompts", "text"),
    [
        (PointPrompts(x=[500.0], y=[3.0]), r"point (500, 3) lies outside the 32x24 image"),
        (PointPrompts(x=[1.0], y=[]), "1 x, 0 y and 0 labels"),
        (PointPrompts(x=[1.0] * 6, y=[1.0] * 6), "at most 5 points"),
        (PointPrompts(x=[float("nan")], y=[1.0]), "a point is not finite"),
    ],
)
def test_wrong_prompts_are_named(peer, image_of, picture, prompts, text):
    peer.hear("~/point/mask", Image)

    def warned():
        peer.show(image_of(picture), None, [("/robot/point_prompts", prompts)])
        return peer.log.having("/robot/point_prompts", text)

    peer.wait(warned)
    peer.publish("/robot/point_prompts", PointPrompts())


def test_several_seeds_lower_the_confidence_where_they_disagree(peer, image_of, picture, info):
    topic = {"~/depth/confidence": Image}
    one = array_of(peer.ask(image_of(picture), topic, info)["~/depth/confidence"])
    assert peer.set(confidence_seeds=4) == ""
    peer.ask(
        image_of(picture),
        topic,
        info,
        until=lambda answers: (
            array_of(answers["~/depth/confidence"]).astype(int).sum() < one.astype(int).sum()
        ),
    )
    assert peer.set(confidence_seeds=1) == ""


def test_outputs_of_another_size_have_their_camera(peer, image_of, picture, info):
    assert peer.set(output__width=16, output__height=12, cloud__decimation=2) == ""
    answers = peer.ask(
        image_of(picture),
        {"~/depth/image": Image, "~/depth/camera_info": CameraInfo, "~/points": PointCloud2},
        info,
    )
    assert (answers["~/depth/image"].width, answers["~/points"].width) == (16, 8)
    found = answers["~/depth/camera_info"]
    assert (found.width, found.k[0]) == (16, pytest.approx(15.0))
    assert peer.set(output__width=0, output__height=0, cloud__decimation=1) == ""


def test_a_thinned_cloud_has_one_row_and_its_cost_is_shown(peer, image_of, picture, info):
    pytest.importorskip("open3d", reason="needs open3d", exc_type=ImportError)
    assert peer.set(cloud__voxel=0.3, cloud__outliers=True) == ""
    answers = peer.ask(
        image_of(picture), {"~/points": PointCloud2, "~/frame_report": FrameReport}, info
    )
    cloud, report = answers["~/points"], answers["~/frame_report"]
    assert cloud.height == 1
    assert cloud.width < picture.shape[0] * picture.shape[1]
    assert cloud.is_dense
    assert report.durations[report.stages.index("cloud")] > 0
    assert peer.set(cloud__voxel=0.0, cloud__outliers=False) == ""


def test_a_filter_of_the_cloud_is_refused_where_it_cannot_be(peer):
    assert "cloud.label needs a cloud of rows" in peer.set(cloud__voxel=0.3, cloud__label=True)
    if importlib.util.find_spec("open3d") is None:
        assert "cloud.outliers needs open3d" in peer.set(cloud__outliers=True)
    assert peer.get("cloud.voxel") == 0.0


@pytest.mark.skipif(not VISION_MSGS, reason="needs vision_msgs, which is not on PyPI")
def test_the_class_list_waits_for_who_comes_late(peer, image_of, picture):
    peer.ask(image_of(picture), {"~/semantic/mask": Image})
    label_info = importlib.import_module("vision_msgs.msg").LabelInfo
    peer.hear("~/semantic/label_info", label_info, latched())
    (message,) = peer.wait(lambda: peer.received["~/semantic/label_info"])
    named = {item.class_id: item.class_name for item in message.class_map}
    assert named == dict(enumerate(["background", *peer.get("categories")]))
    peer.deafen("~/semantic/label_info")


@pytest.mark.skipif(VISION_MSGS, reason="vision_msgs is here")
def test_the_class_list_needs_vision_msgs_and_says_so(peer, image_of, picture):
    peer.ask(image_of(picture), {"~/semantic/mask": Image})
    warned = ("semantic/label_info", "vision_msgs is not installed")
    peer.wait(lambda: peer.log.having(*warned))
    said = len(peer.log.having(*warned))
    assert peer.set(max_rate=1000.0) == ""
    assert peer.set(max_rate=0.0) == ""
    peer.ask(image_of(picture), {"~/semantic/mask": Image})
    assert len(peer.log.having(*warned)) == said


def test_too_old_images_are_dropped_and_counted(peer, image_of, picture):
    assert peer.set(max_age=1.0) == ""
    peer.hear("~/disparity_relative/image", Image)

    def dropped():
        peer.show(image_of(picture))  # stamped in 1970
        return int(peer.health()[1]["dropped: max_age"])

    peer.wait(dropped)
    peer.wait(lambda: peer.log.having("/robot/camera/image", "max_age 1 s", "use_sim_time"))
    assert peer.set(max_age=0.0) == ""


def test_simulated_time_decides_the_age_and_may_start_again(peer, image_of, picture):
    """A bag in a loop: /clock and stamps go back together."""
    from rosgraph_msgs.msg import Clock

    assert peer.set(use_sim_time=True, max_age=5.0) == ""
    shown = image_of(picture)

    peer.rewind()
    peer.hear("~/disparity_relative/image", Image)

    def answered():
        peer.show(shown)
        peer.publish("/clock", Clock(clock=shown.header.stamp))
        stamps = [
            message.header.stamp.sec for message in peer.received["~/disparity_relative/image"]
        ]
        return stamps and stamps[-1] == shown.header.stamp.sec

    for _ in range(2):
        peer.received["~/disparity_relative/image"].clear()
        peer.wait(answered)
        peer.rewind()
    before = int(peer.until_health("")["dropped: max_age"])
    old = Clock()  # of its own stamp: the image's changes with every showing
    old.clock.sec = shown.header.stamp.sec + 100

    def dropped():
        old.clock.sec += 1  # diagnostics go by this clock: where it stands, none come
        peer.publish("/clock", old)
        peer.show(shown)
        return int(peer.health()[1]["dropped: max_age"]) > before

    peer.wait(dropped)
    assert peer.set(use_sim_time=False, max_age=0.0) == ""


def test_rates_are_limited_and_counted(peer, image_of, picture):
    assert peer.set(max_rate=0.5) == ""
    peer.hear("~/disparity_relative/image", Image)

    def dropped():
        peer.show(image_of(picture))
        return int(peer.health()[1]["dropped: max_rate"])

    peer.wait(dropped)
    assert peer.set(max_rate=0.0) == ""


def test_an_incompatible_subscriber_is_named(peer):
    from rclpy.qos import DurabilityPolicy

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    peer.hear("~/normals/image", Image, latched)
    peer.wait(lambda: peer.log.having("~/normals/image", "incompatible QoS (DURABILITY)"))


def test_diagnostics_tell_the_whole_state(peer, image_of, picture):
    peer.ask(image_of(picture), DISPARITY)
    values = peer.until_health("")
    assert {
        "state",
        "bundle",
        "device",
        "graphs",
        "tasks",
        "input rate (Hz)",
        "output rate (Hz)",
        "target rate (Hz)",
        "idle rate (Hz)",
        "latency p50 (ms)",
        "latency p95 (ms)",
        "age at publish p95 (ms)",
        "dropped: newer frame",
        "memory (MiB)",
        "scale source",
    } <= set(values)
    assert values["device"].startswith("CPU")
    assert values["graphs"] == "eager (cpu)"
    assert values["bundle"] == "random"


def test_the_subscription_is_as_reliable_as_its_publishers(peer, image_of, picture):
    """Best effort loses most images of a megabyte; reliable does not hear best-effort cameras."""
    topic = "/robot/camera/image"

    def subscribed(reliability):
        found = peer.node.get_subscriptions_info_by_topic(topic)
        return [item.qos_profile.reliability for item in found] == [reliability]

    assert peer.ask(image_of(picture), DISPARITY)
    peer.wait(lambda: subscribed(ReliabilityPolicy.RELIABLE))
    second = peer.node.create_publisher(Image, topic, BEST_EFFORT)
    peer.wait(lambda: subscribed(ReliabilityPolicy.BEST_EFFORT))
    peer.hear("~/disparity_relative/image", Image)
    message = image_of(picture)
    message.header.frame_id = "best_effort"

    def answered():
        second.publish(peer.stamp(message, "best_effort"))
        frames = [item.header.frame_id for item in peer.received["~/disparity_relative/image"]]
        return "best_effort" in frames

    peer.wait(answered)
    assert not peer.log.having(topic, "incompatible QoS")
    peer.node.destroy_publisher(second)
    peer.wait(lambda: subscribed(ReliabilityPolicy.RELIABLE))


def test_large_images_arrive(peer, image_of):
    large = np.zeros((720, 1280, 3), np.uint8)
    answer = peer.ask(image_of(large), DISPARITY)["~/disparity_relative/image"]
    assert (answer.height, answer.width) == (720, 1280)


def test_tasks_have_rates_of_their_own(peer, image_of, picture):
    assert peer.set(depth__max_rate=0.01) == ""
    topics = {"~/normals/image": Image, "~/frame_report": FrameReport}
    peer.hear("~/disparity_relative/image", Image)

    def without_depth(answers):
        return answers["~/frame_report"].tasks == ["normal"]

    peer.ask(image_of(picture), topics, until=without_depth)
    assert peer.set(depth__max_rate=0.0) == ""
    peer.ask(image_of(picture), {**topics, **DISPARITY})
