# SPDX-License-Identifier: Apache-2.0
"""From a recorded bag to figures and pictures: what the demo shows of itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.bags import (
    answer_array,
    count_messages,
    image_array,
    read_messages,
)
from diception_ros.evaluation.demo import METRIC, PROMISED, DemoError, Shown
from diception_ros.evaluation.material import DemoFrame
from diception_ros.evaluation.scores import (
    OUTPUTS,
    Summary,
    Timing,
    score_frame,
    summarize,
    timing,
)
from diception_ros.evaluation.sheet import Row
from diception_ros.tasks import Mask, Normals, disparity_from_depth
from diception_ros.tasks.show import colorize

Rgb = npt.NDArray[np.uint8]

REPORT_TOPIC = "/diception/frame_report"
PICTURES = {
    "depth": "/diception/depth/image_color",
    "normals": "/diception/normals/image_color",
    "entities": "/diception/entity/image_color",
    "semantic": "/diception/semantic/image_color",
    "pose": "/diception/pose/image_color",
}
"""Pictures that the node itself publishes, by column."""

TIMED = {"points": "/diception/points"}
"""Further outputs that are timed but not scored."""

COLUMNS = (
    "input",
    "depth",
    "depth, truth",
    "normals",
    "normals, truth",
    "entities",
    "semantic",
    "point",
    "pose",
)
SEQUENCE_ROWS = 3


@dataclass(frozen=True)
class Evaluation:
    """What the bag says. rows: of the sheet; film: by column, the moving camera's frames; shown and
    answered: images of the fixed-rate phase; stages: mean ms by name; missing: metric topics that
    nothing came on.
    """

    timings: Sequence[Timing]
    summaries: Sequence[Summary]
    rows: Sequence[Row]
    columns: Sequence[str]
    film: Mapping[str, Sequence[Rgb]]
    shown: int
    answered: int
    stages: Mapping[str, float]
    graph: bool
    missing: Sequence[str] = ()


@dataclass(frozen=True)
class _Heard:
    """arrays and pictures by stamp and name (paced phase only), arrivals by topic, reports."""

    arrays: Mapping[int, Mapping[str, npt.NDArray[Any]]]
    pictures: Mapping[int, Mapping[str, Rgb]]
    arrivals: Mapping[str, Sequence[tuple[int, int]]]
    reports: Mapping[int, Any]


def evaluate_demo(
    bag: Path,
    frames: Sequence[DemoFrame],
    shown: Sequence[Shown],
    seconds: float,
    categories: Sequence[str] = (),
) -> Evaluation:
    """Figures and pictures of a demo. seconds: length of the fixed-rate phase; categories: the
    node's parameter.
    DemoError naming outputs that never came; ValueError if the bag cannot be read.
    """
    paced = {item.stamp: item.frame for item in shown if item.phase == "paced"}
    at_rate = [item.stamp for item in shown if item.phase == "rate"]
    heard = _listen(bag, paced)
    missing = find_missing(bag, categories)
    scores = [
        score
        for stamp, index in paced.items()
        for score in score_frame(frames[index], heard.arrays.get(stamp, {}), categories)
    ]
    rows = [_row(frames[index], stamp, heard) for stamp, index in paced.items()]
    moving = [
        row for row, index in zip(rows, paced.values(), strict=True) if frames[index].sequence
    ]
    still = [
        row for row, index in zip(rows, paced.values(), strict=True) if not frames[index].sequence
    ]
    kept = [*still, *moving[:: max(1, len(moving) // SEQUENCE_ROWS)][:SEQUENCE_ROWS]]
    columns = [name for name in COLUMNS if any(name in row.pictures for row in kept)]
    return Evaluation(
        timings=_timings(heard, at_rate, seconds),
        summaries=summarize(scores),
        rows=kept,
        columns=columns,
        film=_film(moving, columns),
        shown=len(at_rate),
        answered=sum(stamp in heard.reports for stamp in at_rate),
        stages=_stages(heard.reports),
        graph=any(report.graph_replayed for report in heard.reports.values()),
        missing=missing,
    )


def find_missing(bag: Path, categories: Sequence[str]) -> list[str]:
    """Promised topics of which the bag holds nothing. Metric ones may be missing: a bundle whose
    disparity does not fit the reference rightly gives no metres. DemoError for any other; without
    categories there is no semantic task to miss.
    """
    counts = count_messages(bag)
    missing = [
        topic
        for topic in PROMISED
        if not counts.get(f"/diception/{topic}") and (categories or "semantic/" not in topic)
    ]
    needed = [topic for topic in missing if topic not in METRIC]
    if needed:
        raise DemoError(f"the bag holds no message of {', '.join(needed)}")
    return missing


def _listen(bag: Path, paced: Mapping[int, int]) -> _Heard:
    arrays: dict[int, dict[str, npt.NDArray[Any]]] = defaultdict(dict)
    pictures: dict[int, dict[str, Rgb]] = defaultdict(dict)
    arrivals: dict[str, list[tuple[int, int]]] = defaultdict(list)
    reports: dict[int, Any] = {}
    outputs = {topic: name for name, topic in OUTPUTS.items()}
    columns = {topic: name for name, topic in PICTURES.items()}
    wanted = {*outputs, *columns, *TIMED.values(), REPORT_TOPIC}
    for item in read_messages(bag, wanted):
        arrivals[item.topic].append((item.stamp, item.received))
        if item.topic == REPORT_TOPIC:
            reports[item.stamp] = item.message
        if item.stamp in paced and item.topic in outputs:
            arrays[item.stamp][outputs[item.topic]] = answer_array(item.message)
        if item.stamp in paced and item.topic in columns:
            pictures[item.stamp][columns[item.topic]] = image_array(item.message)
    return _Heard(arrays, pictures, arrivals, reports)


def _row(frame: DemoFrame, stamp: int, heard: _Heard) -> Row:
    pictures = {"input": frame.rgb, **heard.pictures.get(stamp, {})}
    if frame.depth_m is not None:
        truth = disparity_from_depth(frame.depth_m)
        pictures["depth, truth"] = _unknown_grey(colorize(truth), ~np.isfinite(frame.depth_m))
    if frame.normals is not None:
        pictures["normals, truth"] = colorize(Normals(frame.normals))
    mask = heard.arrays.get(stamp, {}).get("point")
    if mask is not None and frame.points:
        answer = Mask(mask > 0, (mask / 255.0).astype(np.float32))
        pictures["point"] = _marked(colorize(answer, image=frame.rgb), frame.points)
    return Row(frame.name.replace("_", " "), frame.credit, pictures)


def _unknown_grey(picture: Rgb, unknown: npt.NDArray[np.bool_]) -> Rgb:
    picture = picture.copy()
    picture[unknown] = 0xD0
    return picture


def _marked(picture: Rgb, points: Sequence[tuple[float, float]]) -> Rgb:
    """A white ring with a red middle at every point that was asked about."""
    picture = picture.copy()
    for x, y in points:
        cv2.circle(picture, (round(x), round(y)), 7, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(picture, (round(x), round(y)), 4, (220, 30, 30), -1, cv2.LINE_AA)
    return picture


def _film(moving: Sequence[Row], columns: Sequence[str]) -> dict[str, list[Rgb]]:
    """Only columns that every frame has: a strip with gaps would lose step with the others."""
    return {
        column: [row.pictures[column] for row in moving]
        for column in columns
        if moving and all(column in row.pictures for row in moving)
    }


def _timings(heard: _Heard, at_rate: Sequence[int], seconds: float) -> list[Timing]:
    topics = {**OUTPUTS, **TIMED, "frame report": REPORT_TOPIC}
    return [
        timing(name, heard.arrivals[topic], at_rate, seconds)
        for name, topic in topics.items()
        if heard.arrivals.get(topic)
    ]


def _stages(reports: Mapping[int, Any]) -> dict[str, float]:
    """Mean milliseconds of every stage that the frame reports name."""
    gathered: dict[str, list[float]] = defaultdict(list)
    for report in reports.values():
        for name, duration in zip(report.stages, report.durations, strict=True):
            gathered[str(name)].append(float(duration))
    return {name: float(np.mean(values)) for name, values in gathered.items()}
