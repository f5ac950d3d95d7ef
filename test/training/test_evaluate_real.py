# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import cv2
import numpy as np
import pytest

from diception_ros.evaluation.material import DemoFrame
from diception_ros.tasks import TASKS
from diception_ros.training.measure.pictures import REAL_COLUMNS, real_row
from diception_ros.training.measure.questions import possible
from diception_ros.training.measure.real import as_frame, real_images, rgbd_images
from diception_ros.training.measure.scores import Answered
from diception_ros.training.scenes import CATEGORIES


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Three frames of 24 x 16 pixels, 2 m away but for one unknown pixel."""
    for name in ("image", "depth"):
        (tmp_path / name).mkdir()
    millimetres = np.full((16, 24), 2000, np.uint16)
    millimetres[0, 0] = 0
    for i in range(3):
        colour = np.full((16, 24, 3), (10, 20, 30 + i), np.uint8)
        cv2.imwrite(str(tmp_path / "image" / f"{i:03d}.png"), colour)
        cv2.imwrite(str(tmp_path / "depth" / f"{i:03d}.png"), millimetres)
    return tmp_path


def test_a_recording_is_read_in_metres(recording: Path) -> None:
    first, third = rgbd_images(recording, every=2)
    assert (first.name, third.name) == ("000", "002")
    np.testing.assert_array_equal(third.rgb[5, 5], (32, 20, 10))
    assert np.isnan(first.depth_m[0, 0]) and (first.depth_m[1:] == 2).all()
    frame = as_frame(first)
    assert [task for task in TASKS if possible(task, frame)] == ["depth"]


def test_a_recording_of_another_kind_says_what_was_expected(
    recording: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"expected image/NAME.jpg .* found 0 images and no pair"):
        rgbd_images(recording / "image")
    depth = recording / "depth" / "000.png"
    cv2.imwrite(str(depth), np.zeros((16, 24), np.uint8))
    with pytest.raises(ValueError, match=r"expected 16-bit .* found uint8 \(16, 24\)"):
        rgbd_images(recording)
    cv2.imwrite(str(depth), np.zeros((8, 24), np.uint16))
    with pytest.raises(ValueError, match=r"shape \(16, 24\), found uint16 \(8, 24\)"):
        rgbd_images(recording)
    depth.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"000\.png cannot be read as an image"):
        rgbd_images(recording)


def test_photographs_keep_the_truth_they_have() -> None:
    images = {image.name: image for image in real_images()}
    assert {"astronaut", "coffee", "chelsea", "rocket", "motorcycle", "canteen"} <= set(images)
    canteen = as_frame(images["canteen"])
    asked = {question.category for question in possible("semantic", canteen)}
    assert "person" in asked and asked <= set(CATEGORIES)
    assert len(possible("point", canteen)) > 3
    assert possible("depth", as_frame(images["motorcycle"]))
    assert not possible("depth", as_frame(images["rocket"]))


def test_classes_that_training_does_not_know_are_nobodys() -> None:
    classes = np.uint8([[0, 1], [2, 2]])
    image = DemoFrame("two", np.zeros((2, 2, 3), np.uint8), "", classes=classes)
    named = as_frame(DemoFrame(**{**vars(image), "class_names": ("zebra", "person")}))
    person = CATEGORIES.index("person")
    np.testing.assert_array_equal(named.categories, [[0, 0], [person, person]])


def test_a_real_image_has_every_answer_on_the_sheet() -> None:
    ids = np.zeros((48, 64), np.uint16)
    ids[10:30, 10:40] = 1
    rgb = np.full((48, 64, 3), 90, np.uint8)
    image = DemoFrame("thing", rgb, "nobody", ids=ids, depth_m=np.ones((48, 64), np.float32))
    asked = []

    def answers(questions, steps):
        asked.extend(questions)
        grey = np.full((48, 64, 3), 0.7, np.float32)
        return [Answered(grey, TASKS[question.task].decode(grey)) for question in questions]

    row = real_row(image, answers)
    assert set(row.pictures) == set(REAL_COLUMNS)
    assert all(picture.shape == (48, 64, 3) for picture in row.pictures.values())
    point = next(question for question in asked if question.task == "point")
    assert ids[point.click] == 1
    assert tuple(row.pictures["point"][point.click]) == (230, 0, 0)
    assert row.subtitle == "nobody; semantic: person"
