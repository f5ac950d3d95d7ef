# SPDX-License-Identifier: Apache-2.0
"""The table of topics: what is offered, what is needed, and what each message holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from diception_ros.geometry import Intrinsics
from diception_ros.ros.answers import Answers, Frame, confidences
from diception_ros.ros.filters import confidence_of, keep, keep_instances
from diception_ros.ros.inputs import Prompts
from diception_ros.ros.native import native
from diception_ros.ros.outputs import OUTPUTS, all_outputs, needed_tasks
from diception_ros.ros.parameters import from_values
from diception_ros.tasks import (
    TASKS,
    Colours,
    Disparity,
    Instance,
    Instances,
    Keypoints,
    Mask,
    MetricDepth,
    Normals,
    Task,
)

HEADER = Header(frame_id="optical")
ASKED = Header(frame_id="somebody")
ASKED.stamp.sec = 77
SIZE = (4, 6)
TABLE = {output.topic: output for output in OUTPUTS}
ALL = from_values({"tasks": list(TASKS), "scale.source": "fixed"})


def found(ids, *scores, category=None):
    """Instances of an id image, each a plain box of its pixels."""
    ids = np.array(ids, np.uint16)
    instances = []
    for number, score in enumerate(scores, 1):
        rows, columns = np.nonzero(ids == number)
        box = (
            int(columns.min()),
            int(rows.min()),
            int(np.ptp(columns)) + 1,
            int(np.ptp(rows)) + 1,
        )
        centre = (float(columns[0]), float(rows[0]))
        instances.append(Instance(number, score, box, len(rows), centre))
    return Instances(ids, tuple(instances), category)


@pytest.fixture
def answers():
    meters = np.full(SIZE, 2.0, np.float32)
    meters[0, 0] = np.nan
    camera = Intrinsics(fx=10, fy=10, cx=2.5, cy=1.5, width=6, height=4)
    prompts = Prompts("/point_prompts", ((1.0, 2.0), (3.0, 0.5)), (1, 0), header=ASKED)
    frame = Frame(HEADER, np.zeros((*SIZE, 3), np.uint8), (6, 4), None, camera, prompts=prompts)
    cup = [[1, 1, 0, 0, 0, 0]] * 2 + [[0, 0, 0, 2, 2, 2]] * 2
    bed = [[0, 1, 1, 0, 0, 0]] * 4
    normals = np.zeros((*SIZE, 3), np.float32)
    normals[..., 2] = -1
    return Answers(
        frame,
        ALL,
        {
            "depth": Disparity(np.linspace(0, 1, 24, dtype=np.float32).reshape(SIZE)),
            "normal": Normals(normals),
            "entity": found(cup, 0.9, 0.8),
            "point": Mask(np.eye(4, 6, dtype=bool), np.eye(4, 6, dtype=np.float32)),
            "pose": Keypoints(np.array([[1, 2], [0, 0]], np.float32), np.array([0.5, 0.4]), SIZE),
        },
        {1: found(cup, 0.9, 0.5, category="cup"), 2: found(bed, 0.7, category="bed")},
        MetricDepth(meters, np.isfinite(meters), 0.1),
        np.full(SIZE, 200, np.uint8),
    )


def image(answers, topic):
    message = TABLE[topic].build(answers)[0]
    kinds = {"mono8": "u1", "mono16": "u2", "rgb8": "u1", "32FC1": "f4", "32FC3": "f4"}
    channels = {"rgb8": 3, "32FC3": 3}.get(message.encoding, 1)
    values = np.frombuffer(message.data, kinds[message.encoding]).reshape(
        message.height, message.width, channels
    )
    assert (message.height, message.width) == answers.frame.rgb.shape[:2]
    assert message.step * message.height == len(message.data)
    assert message.header == HEADER
    return message.encoding, values


def test_every_topic_has_its_encoding(answers):
    encodings = {
        topic: image(answers, topic)[0]
        for topic, output in TABLE.items()
        if output.type == "sensor_msgs/msg/Image"
    }
    assert encodings == {
        "depth/image": "32FC1",
        "depth/confidence": "mono8",
        "disparity_relative/image": "32FC1",
        "depth/image_color": "rgb8",
        "normals/image": "32FC3",
        "normals/image_color": "rgb8",
        "entity/mask": "mono16",
        "entity/image_color": "rgb8",
        "semantic/mask": "mono8",
        "semantic/confidence": "mono8",
        "semantic/image_color": "rgb8",
        "point/mask": "mono8",
        "pose/image_color": "rgb8",
    }


def test_unknown_depth_is_nan_never_zero(answers):
    _, meters = image(answers, "depth/image")
    assert np.isnan(meters[0, 0, 0])
    assert not (meters == 0).any()


def test_the_surer_class_wins_and_zero_is_background(answers):
    _, ids = image(answers, "semantic/mask")
    _, confidence = image(answers, "semantic/confidence")
    assert ids[0, :, 0].tolist() == [1, 1, 2, 0, 0, 0]
    assert ids[3, :, 0].tolist() == [0, 2, 2, 1, 1, 1]
    assert confidence[0, :, 0].tolist() == [230, 230, 178, 0, 0, 0]


def test_the_picture_of_classes_names_them(answers):
    """Two nodes that differ in nothing but a class's name show different pictures."""
    ids = np.zeros((120, 200), np.uint16)
    ids[60:, 100:] = 1
    frame = replace(answers.frame, rgb=np.zeros((120, 200, 3), np.uint8))
    pictures = [
        image(
            Answers(
                frame,
                from_values({"tasks": ["semantic"], "categories": [name]}),
                semantic={1: found(ids, 0.9, category=name)},
            ),
            "semantic/image_color",
        )[1]
        for name in ("cup", "bed")
    ]
    differs = (pictures[0] != pictures[1]).any(axis=2)
    assert differs[:60, :100].any()
    assert not differs[60:].any()


def test_the_answer_to_prompts_repeats_them_under_their_own_header(answers):
    (message,) = [native(item) for item in TABLE["point/prompts"].build(answers)]
    assert message.header == ASKED
    assert (list(message.x), list(message.y)) == ([1.0, 3.0], [2.0, 0.5])
    assert list(message.labels) == [1, 0]
    unasked = replace(answers, frame=replace(answers.frame, prompts=None))
    assert TABLE["point/prompts"].build(unasked) == ()


def test_point_masks_are_black_and_white(answers):
    assert np.unique(image(answers, "point/mask")[1]).tolist() == [0, 255]


def test_instances_have_boxes_and_positions(answers):
    entity, semantic = TABLE["instances"].build(answers)
    assert (entity.task, semantic.task) == ("entity", "semantic")
    assert [item.class_id for item in entity.instances] == [-1, -1]
    assert [(i.class_id, i.class_name) for i in semantic.instances] == [
        (1, "cup"),
        (1, "cup"),
        (2, "bed"),
    ]
    second = entity.instances[1]
    assert (second.x, second.y, second.width, second.height, second.area) == (3, 2, 3, 2, 6)
    assert second.has_position
    assert second.position.z == 2.0
    assert second.position.x == pytest.approx((4 - 2.5) / 10 * 2)


def test_without_metres_nothing_metric_is_made(answers):
    blind = replace(answers, metric=None, confidence=None)
    for topic, output in TABLE.items():
        assert bool(output.build(blind)) != output.metric, topic
    assert not any(i.has_position for m in TABLE["instances"].build(blind) for i in m.instances)


def test_keypoints_have_positions_where_depth_is_known(answers):
    points = TABLE["pose/keypoints"].build(answers)[0].keypoints
    assert [point.has_position for point in points] == [True, False]
    assert points[0].x == 1.0


def test_nothing_is_made_of_missing_answers(answers):
    empty = Answers(answers.frame, ALL)
    assert [topic for topic, output in TABLE.items() if output.build(empty)] == []


def test_offered_topics_follow_tasks_and_scale_source():
    def offered(**values):
        parameters = from_values(values)
        return {output.topic for output in OUTPUTS if output.offered(parameters)}

    assert offered(tasks=["depth"]) == {"disparity_relative/image", "depth/image_color"}
    assert offered(tasks=["point"]) == {"point/mask", "point/prompts"}
    metric = {"depth/image", "depth/camera_info", "depth/confidence", "points"}
    both = offered(tasks=["depth"], **{"scale.source": "fixed"})
    assert both == offered(tasks=["depth"]) | metric


@pytest.mark.parametrize(
    ("topics", "values", "wanted"),
    [
        (["normals/image"], {}, ("normal",)),
        (["points"], {}, ("depth",)),
        (["points"], {"cloud.normals": True, "cloud.label": True}, ("depth", "normal", "semantic")),
        (["instances"], {}, ("depth", "entity", "semantic")),
        (["instances"], {"scale.source": "none"}, ("entity", "semantic")),
        (["pose/keypoints"], {}, ("depth", "pose")),
        ([], {}, ()),
    ],
)
def test_only_what_is_listened_to_is_needed(topics, values, wanted):
    parameters = from_values({"tasks": list(TASKS), "scale.source": "fixed", **values})
    assert needed_tasks([TABLE[topic] for topic in topics], parameters) == wanted


def test_a_task_of_ones_own_brings_its_topics(answers):
    def own(name, result):
        return Task(name, f"[[{name}]]", lambda: None, lambda: None, result)

    tasks = {**TASKS, "floor": own("floor", Mask), "paint": own("paint", Colours)}
    extra = {output.topic: output for output in all_outputs(tasks) if output not in OUTPUTS}
    assert set(extra) == {"floor/mask", "floor/image_color", "paint/image_color"}
    mask = Mask(np.ones(SIZE, bool), np.ones(SIZE, np.float32))
    paint = Colours(np.full((*SIZE, 3), 0.5, np.float32))
    results = {"floor": mask, "paint": paint}
    given = replace(answers, results=results)
    assert bytes(extra["floor/mask"].build(given)[0].data) == b"\xff" * 24
    assert bytes(extra["paint/image_color"].build(given)[0].data) == b"\x80" * 72


def test_the_cloud_has_every_nth_row_and_column_of_all_its_fields(answers):
    values = {"cloud.decimation": 2, "cloud.normals": True, "cloud.label": True}
    given = replace(
        answers,
        parameters=from_values({"tasks": list(TASKS), "scale.source": "fixed", **values}),
        semantic={7: found([[1, 0, 1, 0, 1, 0]] * 4, 0.9)},
    )
    (cloud,) = TABLE["points"].build(given)
    table = np.frombuffer(bytes(cloud.data), "<f4").reshape(cloud.height, cloud.width, 8)
    assert (cloud.height, cloud.width) == (2, 3)
    np.testing.assert_array_equal(table[..., :3], answers.located.points[::2, ::2])
    normals = answers.results["normal"].vectors
    np.testing.assert_array_equal(table[..., 4:7], normals[::2, ::2])
    assert set(table[..., 7].view("<u4").flat) == {7}


def test_outliers_of_the_cloud_become_unknown_where_they_are(answers):
    pytest.importorskip("open3d", reason="needs open3d", exc_type=ImportError)
    camera = Intrinsics(fx=50, fy=50, cx=19.5, cy=14.5, width=40, height=30)
    meters = np.full((30, 40), 2.0, np.float32)
    meters[12, 20] = 9.0
    frame = Frame(HEADER, np.zeros((30, 40, 3), np.uint8), (40, 30), camera=camera)
    values = {"tasks": list(TASKS), "scale.source": "fixed", "cloud.outliers": True}
    given = Answers(
        frame, from_values(values), metric=MetricDepth(meters, np.isfinite(meters), 0.0)
    )
    (cloud,) = TABLE["points"].build(given)
    depth = np.frombuffer(bytes(cloud.data), "<f4").reshape(cloud.height, cloud.width, 4)[..., 2]
    assert (cloud.height, cloud.width, cloud.is_dense) == (30, 40, False)
    assert np.isnan(depth[12, 20])
    assert np.isfinite(depth).mean() > 0.95


def test_the_sides_of_the_output_are_set_one_at_a_time(peer, image_of, picture, info):
    """As ros2 param set does it; and in one call, of which each is checked alone."""

    def size():
        topics = {"~/depth/image": Image, "~/depth/camera_info": CameraInfo}
        found = peer.ask(image_of(picture), topics, info)
        depth, camera = found["~/depth/image"], found["~/depth/camera_info"]
        assert (camera.width, camera.height) == (depth.width, depth.height)
        assert camera.k[0] == pytest.approx(30.0 * depth.width / 32)
        return depth.width, depth.height

    assert peer.set(output__width=16) == ""
    assert size() == (16, 12)
    assert peer.set(output__height=6) == ""
    assert size() == (16, 6)
    assert peer.set(output__width=0) == ""
    assert size() == (8, 6)
    values = {"output.width": 0, "output.height": 0}
    both = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
    request = SetParameters.Request(parameters=both)
    results = peer.call("set_parameters", SetParameters, request).results
    assert [result.reason for result in results] == ["", ""]
    assert size() == (32, 24)


def test_filters_leave_out_the_weak_and_small():
    ids = [[1, 1, 2, 3, 3, 3]] * 4
    three = found(ids, 0.2, 0.9, 0.9)
    kept = keep_instances(three, score=0.5, area=5)
    assert [item.id for item in kept.instances] == [3]
    assert np.unique(kept.ids).tolist() == [0, 3]
    assert keep_instances(three, score=0.0, area=1) is three


def test_scores_decide_over_masks_and_keypoints():
    parameters = from_values({"filter.point_score": 0.3, "filter.keypoint_score": 0.45})
    score = np.array([[0.1, 0.3, 0.6]], np.float32)
    mask = Mask(score > 0.5, score)
    assert keep(mask, parameters, pointed=True).mask.tolist() == [[False, True, True]]
    assert keep(mask, parameters, pointed=False) is mask  # a task of one's own has its threshold
    pose = Keypoints(np.zeros((2, 2), np.float32), np.array([0.5, 0.4], np.float32), SIZE)
    assert len(keep(pose, parameters, pointed=False).points) == 1


def test_confidence_falls_with_residual_and_spread():
    meters = np.array([[1.0, np.nan, 1.0]], np.float32)
    metric = MetricDepth(meters, np.isfinite(meters), 0.05)
    spread = np.array([[0.0, 0.0, 0.05]], np.float32)
    assert confidence_of(metric, None, 0.25).tolist() == [[204, 0, 204]]
    assert confidence_of(metric, spread, 0.25).tolist() == [[204, 0, 102]]
    assert confidence_of(replace(metric, residual=1.0), None, 0.25).tolist() == [[1, 0, 1]]


@pytest.mark.parametrize("count", [3, 255, 256, 400])
def test_confidences_reach_every_instance_however_many(count):
    ids = np.arange(count + 1, dtype=np.uint16)[None]
    found = tuple(Instance(i, i / count, (i, 0, 1, 1), 1, (i, 0)) for i in range(1, count + 1))
    expected = [0] + [max(1, round(255 * i / count)) for i in range(1, count + 1)]
    assert confidences(Instances(ids, found)).tolist() == [expected]


def test_an_instance_without_pixels_left_is_no_fault():
    ids = np.array([[0, 1]], np.uint16)
    found = tuple(Instance(i, 0.5, (1, 0, 1, 1), 1, (1, 0)) for i in (1, 700))
    assert confidences(Instances(ids, found)).tolist() == [[0, 128]]
