# SPDX-License-Identifier: Apache-2.0
"""A frame to look at: input, answer, truth and where it is wrong, with a legend in units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.answers import Answers
from diception_ros.evaluation.datasets.sample import Bool, Object, Rgb, Sample
from diception_ros.evaluation.protocols import masks
from diception_ros.evaluation.protocols.clicks import Click
from diception_ros.evaluation.protocols.depth import to_metres
from diception_ros.evaluation.protocols.normals import angles, known
from diception_ros.evaluation.protocols.presets import DepthPreset
from diception_ros.evaluation.truths import classes_of, flatten
from diception_ros.tasks import Instances, Keypoints, Mask, Normals
from diception_ros.tasks.show import colorize, ramp

GREY = 0xC8
"""Where nothing is known or judged."""
HIT, MISSED, EXTRA = (60, 160, 80), (60, 110, 230), (220, 60, 50)
MAP = cv2.COLORMAP_INFERNO


@dataclass(frozen=True)
class Legend:
    """A colour bar from `low` to `high` (with units) or, with `swatches`, colours and meanings."""

    title: str
    low: str = ""
    high: str = ""
    stops: tuple[tuple[int, int, int], ...] = ()
    swatches: tuple[tuple[tuple[int, int, int], str], ...] = ()


@dataclass(frozen=True)
class Panels:
    """Pictures RGB uint8 by caption, in order; legends below them."""

    pictures: tuple[tuple[str, Rgb], ...]
    legends: tuple[Legend, ...]


def draw(task: str, sample: Sample, answers: Answers, preset: DepthPreset) -> Panels | None:
    """The task's panels, None where truth or answer is missing."""
    if task == "depth" and sample.depth_m is not None and answers.depth is not None:
        return draw_depth(sample, answers, preset)
    if task == "normal" and sample.normals is not None and answers.normals is not None:
        return draw_normals(sample, answers)
    if task == "entity" and sample.objects is not None and answers.ids is not None:
        return draw_entities(sample, answers.ids)
    if task == "pose" and sample.objects is not None and answers.keypoints is not None:
        return draw_pose(sample, answers.keypoints)
    return None


def draw_depth(sample: Sample, answers: Answers, preset: DepthPreset) -> Panels:
    """Both depths in one scale of colours, and |z - g| in metres under the first protocol."""
    truth, answer = sample.depth_m, answers.depth
    assert truth is not None
    assert answer is not None
    answered = np.isfinite(answer)
    if answers.kind == "metric":
        answered &= np.nan_to_num(answer) > 0
    valid = preset.valid(truth) & answered
    protocol = answers.judged()[0]
    metres = preset.clip(to_metres(answer, answers.kind, protocol, truth, valid))
    shown = preset.valid(truth)
    near, far = (float(v) for v in np.percentile(truth[shown], (2, 98)))
    error = np.where(valid, np.abs(metres - truth), np.nan)
    top = nice(float(np.nanpercentile(error, 90)))
    return Panels(
        (
            ("input", sample.rgb),
            (f"answer, {protocol}", _depth_colours(np.where(answered, metres, np.nan), near, far)),
            ("truth", _depth_colours(truth, near, far)),
            ("|answer - truth|", heat(error, top)),
        ),
        (
            Legend("depth", f"{near:.2f} m", f"{far:.2f} m", _stops(reverse=True)),
            Legend("error", "0 m", f"{top:g} m and more", heat_stops()),
            _unknown("not judged"),
        ),
    )


def draw_normals(sample: Sample, answers: Answers) -> Panels:
    assert sample.normals is not None
    assert answers.normals is not None
    at = known(sample.normals)
    error = np.where(at, angles(answers.normals, sample.normals), np.nan)
    truth = colorize(Normals(np.nan_to_num(sample.normals).astype(np.float32)))
    truth[~at] = GREY
    top = 60.0
    return Panels(
        (
            ("input", sample.rgb),
            ("answer", colorize(Normals(np.nan_to_num(answers.normals).astype(np.float32)))),
            ("truth", truth),
            ("angle between them", heat(error, top)),
        ),
        (Legend("error", "0°", f"{top:g}° and more", heat_stops()), _unknown("not judged")),
    )


def draw_entities(sample: Sample, ids: npt.NDArray[Any]) -> Panels:
    objects = [one for one in sample.objects or () if one.pixels]
    truth = flatten(objects, sample.size)
    best = masks.best_ious(ids, [one.mask(sample.size) for one in objects])
    iou = np.concatenate([[np.nan], best])[truth]
    return Panels(
        (
            ("input", sample.rgb),
            ("answer", colorize(Instances(renumbered(ids), ()), sample.rgb)),
            ("truth", colorize(Instances(truth.astype(np.uint16), ()), sample.rgb)),
            ("1 - best IoU of each true object", heat(1 - iou, 1.0)),
        ),
        (
            Legend("1 - IoU", "0 (found)", "1 (missed)", heat_stops()),
            _unknown("no true object"),
        ),
    )


def renumbered(ids: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Ids of any size (H, W) as 1, 2 and so on, in their order; 0 and below: 0."""
    names = np.unique(ids[ids > 0])
    return np.where(ids > 0, np.searchsorted(names, ids) + 1, 0).astype(np.uint16)


def draw_semantic(sample: Sample, classes: npt.NDArray[Any], categories: Sequence[str]) -> Panels:
    truth = classes_of(sample, categories)
    assert truth is not None
    wrong = np.full((*sample.size, 3), 255, np.uint8)
    wrong[(classes == truth) & (truth > 0)] = HIT
    wrong[(truth > 0) & (classes != truth)] = MISSED
    wrong[(truth == 0) & (classes > 0)] = EXTRA
    wrong[truth < 0] = GREY
    return Panels(
        (
            ("input", sample.rgb),
            ("answer", colorize(Instances(classes.astype(np.uint16), ()), sample.rgb)),
            ("truth", colorize(Instances(truth.clip(0).astype(np.uint16), ()), sample.rgb)),
            ("right and wrong", wrong),
        ),
        (
            Legend("asked", swatches=(((255, 255, 255), ", ".join(categories)),)),
            _right_and_wrong("missed or another class"),
        ),
    )


def draw_point(sample: Sample, one: Object, answer: Bool, clicks: Sequence[Click]) -> Panels:
    truth = one.mask(sample.size)
    wrong = np.full((*sample.size, 3), 255, np.uint8)
    wrong[truth & answer], wrong[truth & ~answer], wrong[answer & ~truth] = HIT, MISSED, EXTRA
    clicked = np.ascontiguousarray(sample.rgb.copy())
    radius = max(3, round(0.012 * max(sample.size)))
    for x, y, label in clicks:
        centre = (round(x), round(y))
        cv2.circle(clicked, centre, radius + 2, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(clicked, centre, radius, HIT if label else EXTRA, -1, cv2.LINE_AA)
    return Panels(
        (
            ("input and clicks", clicked),
            ("answer", colorize(Mask(answer, answer.astype(np.float32)), sample.rgb)),
            ("truth", colorize(Mask(truth, truth.astype(np.float32)), sample.rgb)),
            ("right and wrong", wrong),
        ),
        (_right_and_wrong("missed"),),
    )


def draw_pose(sample: Sample, points: npt.NDArray[Any]) -> Panels:
    people = [one.keypoints for one in sample.objects or () if len(one.keypoints)]
    joints = [rows[rows[:, 2] > 0, :2] for rows in people] or [np.zeros((0, 2))]
    truth = np.concatenate(joints).astype(np.float32)
    both = (sample.rgb * 0.6).astype(np.uint8)
    radius = max(2, round(0.008 * min(sample.size)))
    points = points[np.isfinite(points).all(axis=1)]
    for colour, some in ((HIT, truth), (EXTRA, points)):
        for x, y in some:
            cv2.circle(both, (round(float(x)), round(float(y))), radius, colour, -1, cv2.LINE_AA)
    found = Keypoints(points.astype(np.float32), np.ones(len(points), np.float32), sample.size)
    true = Keypoints(truth, np.ones(len(truth), np.float32), sample.size)
    return Panels(
        (
            ("input", sample.rgb),
            ("answer", colorize(found, sample.rgb)),
            ("truth", colorize(true, sample.rgb)),
            ("both", both),
        ),
        (Legend("joints", swatches=((HIT, "true"), (EXTRA, "found"))),),
    )


def heat(values: npt.NDArray[Any], top: float) -> Rgb:
    """0..top as dark to bright, unknown (NaN) grey."""
    grey = np.clip(np.nan_to_num(values) / max(top, 1e-12), 0, 1)
    coloured = cv2.applyColorMap((255 * grey).astype(np.uint8), MAP)
    picture = np.asarray(cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB), np.uint8)
    picture[~np.isfinite(values)] = GREY
    return picture


def heat_stops() -> tuple[tuple[int, int, int], ...]:
    return _colours(heat(np.linspace(0, 1, 9)[None], 1.0))


def nice(value: float) -> float:
    """The next number of 1, 2 or 5 times a power of ten."""
    if not np.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999))


def _depth_colours(metres: npt.NDArray[Any], near: float, far: float) -> Rgb:
    known_at = np.isfinite(metres) & (np.nan_to_num(metres) > 0)
    inverse = np.zeros(metres.shape, np.float32)
    np.divide(1, metres, out=inverse, where=known_at, casting="unsafe")
    span = max(1 / near - 1 / far, 1e-9)
    picture = ramp(np.clip((inverse - 1 / far) / span, 0, 1).astype(np.float32))
    picture[~known_at] = GREY
    return picture


def _stops(*, reverse: bool) -> tuple[tuple[int, int, int], ...]:
    line = np.linspace(1, 0, 9) if reverse else np.linspace(0, 1, 9)
    return _colours(ramp(line[None].astype(np.float32)))


def _colours(row: Rgb) -> tuple[tuple[int, int, int], ...]:
    return tuple((int(r), int(g), int(b)) for r, g, b in row[0])


def _unknown(meaning: str) -> Legend:
    return Legend("", swatches=(((GREY, GREY, GREY), meaning),))


def _right_and_wrong(missed: str) -> Legend:
    return Legend("", swatches=((HIT, "right"), (MISSED, missed), (EXTRA, "too much")))
