# SPDX-License-Identifier: Apache-2.0
"""Sheets to look at: what was shown, what is true, what was answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.material import DemoFrame
from diception_ros.evaluation.sheet import Row, write_sheet
from diception_ros.tasks import TASKS, Instances, disparity_from_depth
from diception_ros.tasks.show import colorize, to_bytes, write
from diception_ros.training.measure.questions import Question, ask, possible
from diception_ros.training.measure.real import as_frame
from diception_ros.training.measure.rows import Answers
from diception_ros.training.scenes import Frame

Picture = npt.NDArray[np.uint8]
CELL = 256
"""Pixels of a rendered scene's picture, square as the scenes are."""
WANTED = {"coffee": "cup"}
"""Category to ask a photograph for that has no classes of its own; otherwise OTHERWISE."""
OTHERWISE = "person"
COLUMNS, DRAWN = 8, 8
"""Scenes on a sheet, and at most how many images of every real set."""
SCENES_NOTE = "Colours as they are generated, one step; the red dot is the click."
REAL_NOTE = """\
One step. astronaut, coffee, chelsea, rocket and camera are also textures of training scenes: to \
look at, not measured.\
"""
REAL_COLUMNS = (
    "image",
    "depth",
    "true depth",
    "normals",
    "entities",
    "true entities",
    "semantic",
    "point",
    "pose",
)


def draw_scenes(path: Path, frames: list[Frame], answers: Answers) -> None:
    """A sheet of the first scenes that show each task."""
    columns = [str(i + 1) for i in range(COLUMNS)]
    rows = scene_rows(frames, answers, COLUMNS)
    write_sheet(path, rows, columns, "Unseen rendered scenes", [SCENES_NOTE])


def draw_real(path: Path, real: Mapping[str, list[DemoFrame]], answers: Answers) -> None:
    """A sheet of real images, of every set at most DRAWN, spread evenly."""
    images = [image for some in real.values() for image in some[:: -(-len(some) // DRAWN)]]
    rows = [real_row(image, answers) for image in images]
    write_sheet(path, rows, REAL_COLUMNS, "Real images", [REAL_NOTE])


def scene_rows(frames: list[Frame], answers: Answers, columns: int) -> list[Row]:
    """Per task a row of images, of true and of generated colours, each RGB uint8 CELL x CELL."""
    rows = []
    for task in TASKS:
        questions = ask(task, frames, np.random.default_rng(1))[:columns]
        if not questions:
            continue
        layers = {
            "image": [marked(question) for question in questions],
            "truth": [enlarged(to_bytes(question.colours())) for question in questions],
            "network, 1 step": [enlarged(to_bytes(one.colours)) for one in answers(questions, 1)],
        }
        for layer, pictures in layers.items():
            rows.append(Row(task, layer, {str(i + 1): one for i, one in enumerate(pictures)}))
    return rows


def enlarged(picture: Picture) -> Picture:
    return np.asarray(cv2.resize(picture, (CELL, CELL), interpolation=cv2.INTER_NEAREST), np.uint8)


def marked(question: Question) -> Picture:
    """The image with the click as a ringed dot and the category in writing."""
    picture = enlarged(question.image)
    if question.click is not None:
        row, column = ((np.array(question.click) + 0.5) / question.size * CELL).astype(int).tolist()
        cv2.circle(picture, (column, row), 7, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(picture, (column, row), 5, (230, 0, 0), -1, cv2.LINE_AA)
    write(picture, question.category, (8, CELL - 10), 0.8)
    return picture


def real_row(image: DemoFrame, answers: Answers) -> Row:
    """Every task's answer to one real image, as the node would show it, and the truth there is."""
    frame = as_frame(image)
    questions = real_questions(image, frame)
    results = {question.task: answers([question], 1)[0].result for question in questions}
    shown = {task: colorize(result, image.rgb) for task, result in results.items()}
    names = {"normal": "normals", "entity": "entities"}
    pictures = {names.get(task, task): picture for task, picture in shown.items()}
    point = next(question for question in questions if question.click is not None)
    pictures["image"] = image.rgb
    pictures["point"] = with_click(pictures["point"], point)
    if image.depth_m is not None:
        pictures["true depth"] = colorize(disparity_from_depth(image.depth_m))
    if image.ids is not None:
        pictures["true entities"] = colorize(Instances(image.ids, ()), image.rgb)
    category = next(question.category for question in questions if question.category)
    return Row(image.name, f"{image.credit}; semantic: {category}", pictures)


def real_questions(image: DemoFrame, frame: Frame) -> list[Question]:
    """One question of every task, whether or not there is truth. The click: the largest object's
    innermost pixel, else the image's own point or its middle; the category: the largest.
    """
    height, width = frame.depth.shape
    clicks = possible("point", frame)
    column, row = image.points[0] if image.points else (width // 2, height // 2)
    click = max(clicks, key=lambda q: q.mask.sum()).click if clicks else (int(row), int(column))
    known = possible("semantic", frame)
    category = WANTED.get(image.name, OTHERWISE)
    if known:
        category = max(known, key=lambda question: question.mask.sum()).category
    asked = {"semantic": {"category": category}, "point": {"click": click}}
    return [Question(task, frame, image.rgb, **asked.get(task, {})) for task in TASKS]


def with_click(picture: Picture, question: Question) -> Picture:
    assert question.click is not None
    row, column = question.click
    radius = max(4, round(0.015 * max(question.size)))
    drawn = picture.copy()
    cv2.circle(drawn, (column, row), radius + 2, (255, 255, 255), -1, cv2.LINE_AA)
    cv2.circle(drawn, (column, row), radius, (230, 0, 0), -1, cv2.LINE_AA)
    return drawn


def stacked(rows: Sequence[Row], columns: int) -> Picture:
    """The rows' pictures without any writing, black where one is missing."""
    black = np.zeros((CELL, CELL, 3), np.uint8)
    names = [str(i + 1) for i in range(columns)]
    return np.vstack([np.hstack([row.pictures.get(name, black) for name in names]) for row in rows])
