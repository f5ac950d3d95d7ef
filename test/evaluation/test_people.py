# SPDX-License-Identifier: Apache-2.0
"""AP and AR of people's joints: what COCO's own evaluation gives for COCO's own files."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from diception_ros.evaluation.answers import Answers, FolderAnswers
from diception_ros.evaluation.datasets import open_dataset
from diception_ros.evaluation.datasets.sample import Object, Sample
from diception_ros.evaluation.evaluate import Plan, evaluate
from diception_ros.evaluation.figures import Draws
from diception_ros.evaluation.judge import Judge
from diception_ros.evaluation.protocols.average_precision import KEYPOINT_STATS, Person
from diception_ros.evaluation.protocols.presets import find_preset
from diception_ros.evaluation.truths import Rules

SIZE = (300, 400)
RULES = Rules(find_preset("plain"))


def person(rng, number, image, **more):
    """An annotation as COCO writes it: its box is not that of its mask or of its joints."""
    x, y, side = rng.uniform(0, 150), rng.uniform(0, 60), rng.uniform(20, 220)
    joints = np.column_stack([rng.uniform(x, x + side, 17), rng.uniform(y, y + side, 17)])
    visible = rng.integers(0, 3, 17)
    joints[visible == 0] = 0
    keypoints = np.column_stack([joints.round(), visible])
    polygon = [x, y, x + side, y, x + side, y + side]
    entry = {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [x - 2.5, y - 1.5, side + 5, side + 4],
        "area": 0.6 * side * side,
        "segmentation": [polygon],
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": int((visible > 0).sum()),
    }
    return {**entry, **more}


@pytest.fixture
def coco(tmp_path):
    """Twelve images with people, a crowd, people without a labelled joint, and a dog."""
    rng = np.random.default_rng(1)
    nothing = {"keypoints": [0] * 51, "num_keypoints": 0}
    people = [person(rng, 100 * i + j + 1, i) for i in range(11) for j in range(3)]
    people += [person(rng, 5000 + i, i, **nothing) for i in range(4)]
    mask = np.zeros(SIZE, np.uint8)
    mask[100:150, 200:280] = 1
    runs = [int(n) for n in np.diff([0, *(np.flatnonzero(np.diff(mask.T.ravel())) + 1), mask.size])]
    crowd = {"iscrowd": 1, "segmentation": {"counts": runs, "size": list(SIZE)}}
    people.append(person(rng, 6000, 2, **nothing, **crowd, bbox=[200.0, 100.0, 80.0, 50.0]))
    dog = {"category_id": 2, "keypoints": [], "num_keypoints": 0}
    images = [
        {"id": i, "file_name": f"{i:03d}.jpg", "height": 300, "width": 400} for i in range(12)
    ]
    (tmp_path / "val").mkdir()
    for one in images:
        cv2.imwrite(str(tmp_path / "val" / one["file_name"]), np.zeros((*SIZE, 3), np.uint8))
    (tmp_path / "annotations").mkdir()
    categories = [{"id": 1, "name": "person", "keypoints": ["x"] * 17, "skeleton": []}]
    for name, entries, kinds in (
        ("person_keypoints_val", people, categories),
        (
            "instances_val",
            [*people, person(rng, 7000, 1, **dog)],
            [*categories, {"id": 2, "name": "dog"}],
        ),
    ):
        content = {"images": images, "annotations": entries, "categories": kinds}
        (tmp_path / "annotations" / f"{name}.json").write_text(json.dumps(content))
    return tmp_path, people


def answered(people, folder):
    """Everybody's joints moved by some pixels, one forgotten, some invented; as files and as
    COCO's results."""
    rng, results = np.random.default_rng(2), []
    for image in range(12):
        joints = [
            np.reshape(one["keypoints"], (17, 3))[:, :2] + rng.normal(0, rng.uniform(0, 9), (17, 2))
            for one in people
            if one["image_id"] == image and one["num_keypoints"]
        ][1 if image == 4 else 0 :]
        joints += [rng.uniform(0, 200, (17, 2)) for _ in range(image % 3)]
        joints += [rng.uniform([200, 100], [280, 150], (17, 2))] if image == 2 else []
        sure = rng.uniform(0, 1, (len(joints), 17))
        values = np.concatenate([np.reshape(joints, (-1, 17, 2)), sure[..., None]], axis=2)
        np.save(folder / f"{image:03d}.pose.npy", values)
        results += [
            {
                "image_id": image,
                "category_id": 1,
                "keypoints": np.column_stack([one[:, :2], np.ones(17)]).ravel().tolist(),
                "score": float(one[:, 2].mean()),
            }
            for one in values
        ]
    return results


def test_the_numbers_are_those_of_cocos_files(coco, tmp_path):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    path, people = coco
    (tmp_path / "answers").mkdir()
    results = answered(people, tmp_path / "answers")
    reference = COCO(str(path / "annotations/person_keypoints_val.json"))
    judged = COCOeval(reference, reference.loadRes(results), "keypoints")
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    expected = dict(zip(KEYPOINT_STATS, judged.stats, strict=True))
    assert 0.1 < expected["AP"] < 0.9
    assert expected["APm"] != expected["APl"]

    answerer = FolderAnswers(tmp_path / "answers")
    found, _ = evaluate(open_dataset(path), answerer, Plan(RULES, ("pose",)))
    assert found.skipped == []
    figures = {f.metric.name: f for f in found.figures if f.metric.protocol.startswith("COCO key")}
    assert {name: one.value for name, one in figures.items()} == pytest.approx(expected, abs=1e-9)
    interval = figures["AP"].estimate(found.draws)
    assert interval.low < expected["AP"] < interval.high
    assert interval.frames == 12


def test_points_without_types_get_none(coco, tmp_path):
    path, _ = coco
    (tmp_path / "answers").mkdir()
    for image in range(12):
        np.save(tmp_path / f"answers/{image:03d}.pose.npy", np.zeros((5, 2)))
    found, _ = evaluate(
        open_dataset(path), FolderAnswers(tmp_path / "answers"), Plan(RULES, ("pose",))
    )
    assert {f.metric.name for f in found.figures} == {"PCK@0.05", "PCK@0.1", "PCK@0.2"}


def test_other_skeletons_are_refused():
    with pytest.raises(ValueError, match=r"expected COCO's joints \(17, 3\), found \(14, 3\)"):
        Person(np.zeros((14, 3)))


def test_joints_that_were_not_found_are_no_right_ones(coco, tmp_path):
    """NaN is smaller than no threshold, pycocotools' too."""
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    path, people = coco
    (tmp_path / "answers").mkdir()
    for image in range(12):
        joints = [np.reshape(o["keypoints"], (17, 3)) for o in people if o["image_id"] == image]
        answer = np.reshape(joints, (-1, 17, 3))[..., :2].astype(float)
        answer[:, :9] = np.nan
        np.save(tmp_path / f"answers/{image:03d}.pose.npy", answer)
    found, _ = evaluate(
        open_dataset(path), FolderAnswers(tmp_path / "answers"), Plan(RULES, ("pose",))
    )
    values = {f.metric.name: f.estimate(found.draws).value for f in found.figures}
    assert found.skipped == []
    assert 0.2 < values["PCK@0.05"] < 0.7
    assert 0.2 < values["OKS"] < 0.7
    assert values["AP"] < 0.5


def test_an_annotated_box_is_the_measure_where_there_is_no_segment():
    joint = np.array([[50.0, 90.0, 2.0]])
    box = (0.0, 0.0, 100.0, 200.0)
    person = Object(np.zeros((0, 0), bool), (0, 0), keypoints=joint, bbox=box)
    sample = Sample("a", np.zeros((200, 100, 3), np.uint8), objects=(person,))
    judge = Judge(RULES)
    judge.judge(sample, Answers(keypoints=joint[:, :2] + 6))
    found = {f.metric.name: f.estimate(Draws()).value for f in judge.figures()}
    assert found == {"PCK@0.05": 1.0, "PCK@0.1": 1.0, "PCK@0.2": 1.0}
