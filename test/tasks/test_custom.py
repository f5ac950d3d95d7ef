# SPDX-License-Identifier: Apache-2.0
"""User-defined tasks, requests and pictures."""

from __future__ import annotations

import numpy as np
import pytest

from diception_ros.tasks import (
    TASKS,
    Colours,
    Disparity,
    Instances,
    Keypoints,
    Mask,
    MetricDepth,
    Normals,
    Request,
    load_tasks,
)
from diception_ros.tasks.show import colorize

GOOD = """
- {name: crack, prompt: "[[image2crack]]", kind: mask, options: {threshold: 0.3}}
- {name: thickness, prompt: "[[image2thickness]]", kind: disparity, steps: 4, guidance: 2}
- {name: albedo, prompt: "[[image2albedo]]", kind: colour}
"""


def write(tmp_path, text):
    path = tmp_path / "tasks.yaml"
    path.write_text(text)
    return path


def test_every_kind_works(tmp_path):
    tasks = load_tasks(write(tmp_path, GOOD))
    grey = np.full((4, 4, 3), 0.4, np.float32)
    assert tasks["crack"].decode(grey, **tasks["crack"].options).mask.all()
    assert isinstance(tasks["thickness"].decode(grey), Disparity)
    assert (tasks["thickness"].steps, tasks["thickness"].guidance) == (4, 2.0)
    albedo = tasks["albedo"]
    np.testing.assert_array_equal(albedo.decode(albedo.encode(Colours(grey))).rgb, grey)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: crack", "expected a list of tasks, found dict"),
        ("- {name: crack, prompt: p}", r"task 1: expected the fields name, prompt, kind .* found"),
        ("- {name: crack, prompt: p, kind: video}", "kind must be one of mask, disparity, colour"),
        ("- {name: 'my task', prompt: p, kind: mask}", "it becomes a topic"),
        ("- {name: depth, prompt: p, kind: mask}", "the name 'depth' is taken"),
        (
            "- {name: crack, prompt: p, kind: mask, steps: 0}",
            "whole number and at least 1, found 0$",
        ),
        (
            "- {name: crack, prompt: p, kind: mask, steps: 2.7}",
            "steps must be a whole number and at least 1, found 2.7$",
        ),
        ("- {name: crack, prompt: p, kind: mask, guidance: .nan}", "guidance must be 0 or more"),
        ("- {name: crack, prompt: p, kind: mask, step: 1}", "expected the fields"),
        ("- just text", "found just text"),
        ("- {name: crack, prompt: '', kind: mask}", "prompt must be a text that is not empty"),
        (
            "- {name: crack, prompt: p, kind: mask, options: {treshold: 1}}",
            "options of kind mask are threshold, found {'treshold': 1}",
        ),
        (
            "- {name: crack, prompt: p, kind: mask, options: {threshold: high}}",
            "options {'threshold': 'high'}: ",
        ),
        (
            "- {name: crack, prompt: p, kind: mask, options: {threshold: 1.5}}",
            "threshold must lie within 0 and 1, found 1.5",
        ),
        (
            "- {name: far, prompt: p, kind: disparity, options: [1]}",
            "options of kind disparity are none",
        ),
        (
            "[{name: a, prompt: p, kind: mask}, {name: a, prompt: q, kind: mask}]",
            "task 2: the name 'a' is taken",
        ),
        ("- {", "cannot be read as YAML"),
    ],
)
def test_mistakes_are_named_with_the_file(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as error:
        load_tasks(write(tmp_path, text))
    assert "tasks.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"points": ((0.0, 0.0),) * 6}, "at most 5 points per request, got 6"),
        ({"points": ((0.0, 0.0),), "labels": (1, 0)}, "1 points but 2 labels"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
    ],
)
def test_requests_are_validated(values, message):
    with pytest.raises(ValueError, match=message):
        Request("point", **values)


def test_a_category_is_required_or_refused():
    with pytest.raises(ValueError, match="task 'semantic' needs a category"):
        TASKS["semantic"].prompt_for()
    with pytest.raises(ValueError, match="task 'depth' takes no category, got 'person'"):
        TASKS["depth"].prompt_for("person")


H, W = 120, 200
RESULTS = {
    "disparity": Disparity(np.linspace(0, 1, H * W, dtype=np.float32).reshape(H, W)),
    "metric": MetricDepth(np.full((H, W), 2.0, np.float32), np.ones((H, W), bool), 0.0),
    "normals": Normals(np.tile(np.float32([0, -1, 0]), (H, W, 1))),
    "instances": Instances(np.tile(np.arange(W, dtype=np.uint16) // 50, (H, 1)), ()),
    "mask": Mask(np.eye(H, W, dtype=bool), np.eye(H, W, dtype=np.float32)),
    "keypoints": Keypoints(np.float32([[20, 30]]), np.float32([1]), (H, W)),
    "colours": Colours(np.full((H, W, 3), 0.5, np.float32)),
}


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("over", [True, False])
def test_every_result_has_a_picture(name, over):
    image = np.full((H, W, 3), 90, np.uint8) if over else None
    picture = colorize(RESULTS[name], image)
    assert picture.shape == (H, W, 3)
    assert picture.dtype == np.uint8
    if name != "colours":
        assert image is None or (picture != image).any()


def test_near_is_warm_and_unknown_is_black():
    picture = colorize(RESULTS["disparity"]).astype(int)
    assert picture[-1, -1, 0] > picture[-1, -1, 2]
    assert picture[5, 100, 2] > picture[5, 100, 0]
    unknown = MetricDepth(np.full((H, W), np.nan, np.float32), np.zeros((H, W), bool), 0.0)
    assert not colorize(unknown).any()


def test_metres_are_shown_where_they_are_known():
    meters = np.tile(np.linspace(1, 5, W, dtype=np.float32), (H, 1))
    meters[:, 20:40] = np.nan
    picture = colorize(RESULTS["disparity"], None, meters).astype(int)
    assert not picture[:, 20:40].any()
    assert picture[60, 0, 0] > picture[60, 0, 2]
    assert picture[60, 150, 2] > picture[60, 150, 0]


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match="the image is 4x3, the result 200x120"):
        colorize(RESULTS["mask"], np.zeros((3, 4, 3), np.uint8))


def test_a_floor_is_shown_green():
    np.testing.assert_allclose(colorize(RESULTS["normals"])[0, 0], [128, 255, 128], atol=1)


def test_unknown_results_are_refused():
    with pytest.raises(ValueError, match="no picture is known for a str"):
        colorize("depth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.yaml: cannot be read"):
        load_tasks(tmp_path / "absent.yaml")
