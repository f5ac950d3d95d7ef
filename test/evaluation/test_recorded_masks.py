# SPDX-License-Identifier: Apache-2.0
"""Masks of classes and of clicks in a recording, judged; figures worked out by hand."""

import json

import cv2
import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from diception_ros.cli import run
from diception_ros.evaluation.offline.definitions import VISION, message_files
from diception_ros.evaluation.protocols.presets import find_preset
from diception_ros.evaluation.recorded_plan import BagPlan
from diception_ros.evaluation.recording import evaluate_bag
from diception_ros.evaluation.results import compare_results
from diception_ros.evaluation.truths import Rules

MS, SECOND = 10**6, 10**9
SIZE = (20, 40)
RULES = Rules(find_preset("plain"), smallest=10)
CHAIR, TABLE, LAMP = "chair", "table", "lamp"


class Bag:
    """Images are stamped like their place; `received` is when the recorder got a message."""

    def __init__(self, path, plugin=StoragePlugin.MCAP):
        self.writer, self.connections = Writer(path, version=9, storage_plugin=plugin), {}
        self.types = get_typestore(Stores.ROS2_JAZZY)
        own = {f"diception_ros/msg/{file.stem}": file.read_text() for file in message_files()}
        for name, text in {**VISION, **own}.items():
            self.types.register(get_types_from_msg(text, name))

    def __enter__(self):
        self.writer.open()
        return self

    def __exit__(self, *_):
        self.writer.close()

    def add(self, topic, kind, stamp, received, **fields):
        time = self.types.types["builtin_interfaces/msg/Time"](*divmod(stamp, SECOND))
        header = self.types.types["std_msgs/msg/Header"](time, "camera")
        message = self.types.types[kind](header=header, **fields)
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(topic, kind, typestore=self.types)
        data = self.types.serialize_cdr(message, kind)
        self.writer.write(self.connections[topic], received or stamp, data)

    def image(self, topic, values, encoding, stamp, received=None):
        data = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
        shape = {"height": values.shape[0], "width": values.shape[1]}
        layout = {"encoding": encoding, "is_bigendian": 0, "step": data.size // shape["height"]}
        kind = "sensor_msgs/msg/Image"
        self.add(topic, kind, stamp, received, **shape, **layout, data=data)

    def labels(self, topic, names, stamp, received=None):
        one = self.types.types["vision_msgs/msg/VisionClass"]
        named = [one(class_id=number, class_name=name) for number, name in names.items()]
        kind = "vision_msgs/msg/LabelInfo"
        self.add(topic, kind, stamp, received, class_map=named, threshold=0.5)

    def prompts(self, clicks, stamp, received=None):
        x, y, labels = (np.array(part) for part in zip(*clicks, strict=True))
        fields = {"x": x.astype(np.float32), "y": y.astype(np.float32)}
        kind, topic = "diception_ros/msg/PointPrompts", "/diception/point/prompts"
        self.add(topic, kind, stamp, received, **fields, labels=labels.astype(np.uint8))


def stamp_at(i):
    return SECOND + i * 100 * MS


def filled(*columns, ids):
    """Ids from these columns to the next, 0 before the first."""
    values = np.zeros(SIZE, np.uint8)
    for column, number in zip(columns, ids, strict=True):
        values[:, column:] = number
    return values


def figure(results, task, name):
    (found,) = [
        one for one in results.figures if one.metric.task == task and one.metric.name == name
    ]
    return found.estimate(results.draws)


def write_classes(path, **kwargs):
    """Found: a chair in columns 10 to 20 and a table from 20 on. True, under other numbers: the
    chair to 25, the table from there on, nothing known of the last ten columns."""
    with Bag(path, **kwargs) as bag:
        names = {0: "background", 1: CHAIR, 2: TABLE, 3: LAMP}
        bag.labels("/diception/semantic/label_info", names, stamp_at(0))
        bag.labels("/truth/semantic/label_info", {5: TABLE, 9: CHAIR}, stamp_at(0))
        for i in range(4):
            found = filled(10, 20, ids=(1, 2))
            bag.image("/diception/semantic/mask", found, "mono8", stamp_at(i))
            true = filled(10, 25, 30, ids=(9, 5, 255))
            bag.image("/truth/semantic/mask", true, "mono8", stamp_at(i) + 5 * MS)
    return path


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_classes_are_matched_by_their_names(tmp_path, plugin):
    bag = write_classes(tmp_path / "bag", plugin=plugin)
    results, shown = evaluate_bag(bag, BagPlan(RULES, topics=("/truth/semantic/mask",)))
    # chair: 10 columns of 15; table: 5 of 10 (the unknown ones do not count); the lamp, which the
    # truth has no name for, is left out
    assert figure(results, "semantic", "mIoU").value == pytest.approx((10 / 15 + 5 / 10) / 2)
    assert figure(results, "semantic", "mIoU").frames == 4
    assert results.skipped == []
    assert {one.task for one in shown} == {"semantic"}
    wrong = dict(shown[0].panels.pictures)["right and wrong"]
    assert len(np.unique(wrong.reshape(-1, 3), axis=0)) == 4  # white, right, missed, not judged


def test_recordings_of_other_categories_are_not_compared(tmp_path):
    runs = []
    for names in ({1: CHAIR}, {1: CHAIR, 2: TABLE}, {1: TABLE, 2: CHAIR}):
        path = tmp_path / f"bag{len(runs)}"
        with Bag(path) as bag:
            for node, said in (("diception", names), ("truth", {1: CHAIR, 2: TABLE})):
                bag.labels(f"/{node}/semantic/label_info", said, stamp_at(0))
                bag.image(f"/{node}/semantic/mask", filled(10, ids=(1,)), "mono8", stamp_at(0))
        runs.append(evaluate_bag(path, BagPlan(RULES, topics=("/truth/semantic/mask",)))[0])
    assert [run.subject["categories"] for run in runs] == ["chair", "chair, table", "chair, table"]
    differences, alone = compare_results(runs[0], runs[1])
    assert differences == []
    assert alone == ["semantic mIoU (classes asked, background left out)"]
    assert compare_results(runs[1], runs[2])[1] == []


def test_names_that_come_late_or_change_hold_for_the_masks_of_their_time(tmp_path):
    with Bag(tmp_path / "bag") as bag:
        for i in range(6):
            if i == 1:  # a recorder may get what is latched after the first mask
                bag.labels("/diception/semantic/label_info", {1: CHAIR, 2: TABLE}, stamp_at(1))
            if i == 3:
                bag.labels("/diception/semantic/label_info", {1: TABLE, 2: CHAIR}, stamp_at(3))
            ids = (1, 2) if i < 3 else (2, 1)
            bag.image("/diception/semantic/mask", filled(0, 20, ids=ids), "mono8", stamp_at(i))
            bag.image("/truth/semantic/mask", filled(0, 20, ids=(4, 7)), "mono8", stamp_at(i))
        bag.labels("/truth/semantic/label_info", {4: CHAIR, 7: TABLE}, stamp_at(6))
    results, _ = evaluate_bag(tmp_path / "bag", BagPlan(RULES, topics=("/truth/semantic/mask",)))
    assert figure(results, "semantic", "mIoU").value == 1


def write_clicks(path):
    """Three objects of ten columns, ids 1 to 3, and ten columns of nothing. Each prompts come just
    before their mask; the second image's are recorded after it."""
    clicks = [
        [(5.0, 10.0, 1)],  # the first object; its mask covers half of it
        [(25.0, 10.0, 1), (5.0, 10.0, 0)],  # the third, not the first
        [(35.0, 10.0, 1)],  # nothing
        [(100.0, 10.0, 1)],  # outside of the image
        [(5.0, 10.0, 1), (8.0, 3.0, 0)],  # a part of the first: no object is meant
    ]
    masks = [filled(0, 5, ids=(255, 0)), filled(20, 30, ids=(255, 0)), *[filled(0, ids=(255,))] * 3]
    with Bag(path) as bag:
        for i, (asked, mask) in enumerate(zip(clicks, masks, strict=True)):
            received = stamp_at(i) + 50 * MS
            bag.prompts(asked, stamp=7, received=received + (MS if i == 1 else -MS))
            bag.image("/diception/point/mask", mask, "mono8", stamp_at(i), received)
            true = filled(0, 10, 20, 30, ids=(1, 2, 3, 0)).astype(np.uint16)
            bag.image("/truth/entity/mask", true, "mono16", stamp_at(i), received)
    return path


def test_masks_are_judged_by_the_object_that_was_clicked(tmp_path):
    bag = write_clicks(tmp_path / "bag")
    results, shown = evaluate_bag(bag, BagPlan(RULES, topics=("/truth/entity/mask",)))
    assert figure(results, "point", "mIoU, 1 click").value == pytest.approx(0.5)
    assert figure(results, "point", "mIoU, 2 clicks").value == 1
    assert figure(results, "point", "share of prompts on a true object").value == 2 / 5
    assert [one.frame for one in shown if one.task == "point"] == ["1.100000000", "1.000000000"]
    assert results.skipped == []


def test_a_folder_of_masks_with_names_judges_both(tmp_path):
    bag = write_classes(tmp_path / "bag")
    data = tmp_path / "data"
    (data / "rgb").mkdir(parents=True)
    name = f"{stamp_at(1)}"
    cv2.imwrite(str(data / f"rgb/{name}.png"), np.zeros((*SIZE, 3), np.uint8))
    annotations = []
    for i, (left, right, category) in enumerate(((10, 20, 1), (20, 40, 2)), start=1):
        box = [left, 0, right, 0, right, SIZE[0], left, SIZE[0]]
        annotations.append(
            {"id": i, "image_id": 1, "category_id": category, "segmentation": [box], "iscrowd": 0}
        )
    images = [{"id": 1, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]}]
    categories = [{"id": 1, "name": CHAIR}, {"id": 2, "name": TABLE}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (data / "masks.json").write_text(json.dumps(content))
    (data / "data.yaml").write_text(yaml.safe_dump({"images": "rgb", "coco": "masks.json"}))
    from diception_ros.evaluation.datasets import open_dataset

    results, _ = evaluate_bag(bag, BagPlan(RULES, truth=open_dataset(data)))
    assert figure(results, "semantic", "mIoU").value == pytest.approx(1)
    assert results.subject["judged against it"] == 1


def test_a_mask_that_nothing_explains_is_named_once(tmp_path, capsys):
    with Bag(tmp_path / "bag") as bag:
        for i in range(3):
            whole = filled(0, ids=(1,))
            for topic in ("semantic/mask", "point/mask", "entity/mask"):
                bag.image(f"/diception/{topic}", whole, "mono8", stamp_at(i))
            bag.image("/truth/entity/mask", whole, "mono8", stamp_at(i))
            bag.image("/truth/semantic/mask", whole, "mono8", stamp_at(i))
    bag, out = str(tmp_path / "bag"), str(tmp_path / "out")
    assert run(["evaluate", bag, "--against", "/truth/entity/mask", "--out", out]) == 3
    assert "2 frames skipped" in capsys.readouterr().out
    skipped = json.loads((tmp_path / "out" / "results.json").read_text())["skipped"]
    assert [one["name"] for one in skipped] == ["semantic/mask", "point/mask"]
    assert "/diception/semantic/label_info was not recorded" in skipped[0]["cause"]
    assert "/diception/point/prompts was not recorded" in skipped[1]["cause"]
    against = ["--against", "/truth/semantic/mask", "--out", out]
    assert run(["evaluate", bag, *against, "--category", CHAIR]) == 3  # the clicks still
    assert '"mIoU"' in (tmp_path / "out" / "results.json").read_text()
    assert run(["evaluate", bag, *against]) == 2
    assert "nothing on --against /truth/semantic/label_info" in capsys.readouterr().err
    own = ["--against", "/diception/entity/mask", "--out", out]
    assert run(["evaluate", bag, *own]) == 2
    assert "/diception/entity/mask is what /diception published" in capsys.readouterr().err


def test_on_ray_the_results_are_those_of_one_process(tmp_path, ray_here):
    bag = write_clicks(tmp_path / "bag")
    options = ["evaluate", str(bag), "--against", "/truth/entity/mask", "--out"]
    assert run([*options, str(tmp_path / "here")]) == 0
    assert run([*options, str(tmp_path / "there"), "--ray"]) == 0
    texts = [(tmp_path / name / "results.json").read_text() for name in ("here", "there")]
    assert texts[0] == texts[1]


def test_names_and_masks_that_do_not_fit_are_no_end(tmp_path):
    """A class that no 8 bits can number is never shown; a mask of floats is named and left out."""
    with Bag(tmp_path / "bag") as bag:
        for topic in ("/diception/semantic", "/truth/semantic"):
            bag.labels(f"{topic}/label_info", {1: CHAIR, 300: LAMP}, stamp_at(0))
            for i in range(3):
                bag.image(f"{topic}/mask", filled(0, 20, ids=(1, 0)), "mono8", stamp_at(i))
        floats = np.ones(SIZE, np.float32)
        bag.image("/diception/semantic/mask", floats, "32FC1", stamp_at(3))
        bag.image("/truth/semantic/mask", filled(0, ids=(1,)), "mono8", stamp_at(3))
    results, _ = evaluate_bag(tmp_path / "bag", BagPlan(RULES, topics=("/truth/semantic/mask",)))
    assert figure(results, "semantic", "mIoU").value == 1
    assert figure(results, "semantic", "mIoU").frames == 3
    assert [one.name for one in results.skipped] == ["1.300000000"]
