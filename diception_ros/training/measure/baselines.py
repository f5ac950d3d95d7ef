# SPDX-License-Identifier: Apache-2.0
"""Answers that need no learning: what a network must beat to be worth running.

"mean target" is the mean of what training asks for, given the prompt alone: the best answer of one
that never sees the image.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from skimage.segmentation import felzenszwalb, slic

from diception_ros.evaluation import metrics
from diception_ros.tasks import TASKS
from diception_ros.training.measure.questions import Bool, Float, Question, possible
from diception_ros.training.measure.scores import Answer, read
from diception_ros.training.scenes import Frame
from diception_ros.training.targets import colours_of, least_area

Baseline = Callable[[Question], Answer]
SLIC_SEGMENTS = 96
"""Of 6 to 128 the number that did best on training scenes, for entities and for clicks."""
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Where a mean mask may be cut."""
MEAN, FACING, FLOOR = "mean target", "upright normals, all facing", "upright normals, floor below"


def baselines(task: str, other: list[Frame]) -> dict[str, Baseline]:
    """Every trivial answer to the task by name. other: training scenes of one size, which the means
    are taken of; ValueError without any.
    """
    if not other:
        raise ValueError("the mean target needs training scenes, found none: name their folder")
    match task:
        case "depth":
            plain: dict[str, Baseline] = {"constant": constant, "best plane": best_plane}
            return {**plain, MEAN: mean_colours(task, other)}
        case "normal":
            return {FACING: all_facing, FLOOR: floor_below, MEAN: mean_colours(task, other)}
        case "entity":
            return {
                "whole image": whole,
                f"SLIC, {SLIC_SEGMENTS} segments": superpixels,
                "colour regions": regions,
                MEAN: mean_colours(task, other),
            }
        case "semantic":
            return {"whole image": whole, MEAN: mean_of_category(other)}
        case "point":
            return {
                "whole image": whole,
                f"SLIC, {SLIC_SEGMENTS} segments": lambda q: at_click(q, superpixels(q)),
                "colour regions": lambda q: at_click(q, regions(q)),
                "mean mask": mean_mask(other),
                MEAN: mean_around_click(other),
            }
        case "pose":
            return {"mean person": mean_person(other), MEAN: mean_colours(task, other)}
    raise ValueError(f"no baselines for the task '{task}', expected one of {', '.join(TASKS)}")


def constant(question: Question) -> Float:
    """The same disparity everywhere; which one, the alignment chooses."""
    return np.zeros(question.size, np.float32)


def best_plane(question: Question) -> Float:
    """The disparity linear in the pixel's place that is nearest to this very image's 1 / depth."""
    depth = question.frame.depth
    known = np.nan_to_num(depth) > 0
    rows, columns = np.mgrid[0 : depth.shape[0], 0 : depth.shape[1]]
    design = np.stack([rows, columns, np.ones_like(rows)], axis=-1).astype(np.float64)
    weights = np.linalg.lstsq(design[known], 1 / depth[known].astype(np.float64), rcond=None)[0]
    return (design @ weights).astype(np.float32)


def all_facing(question: Question) -> Float:
    """Every surface faces the camera."""
    return np.broadcast_to(np.float32([0, 0, -1]), (*question.size, 3))


def floor_below(question: Question) -> Float:
    """A level camera's horizon is the middle row: floor below it, walls that face us above."""
    vectors = all_facing(question).copy()
    vectors[question.size[0] // 2 :] = (0, -1, 0)
    return vectors


def whole(question: Question) -> Bool:
    return np.ones(question.size, np.bool_)


def superpixels(question: Question) -> npt.NDArray[Any]:
    """SLIC (Achanta et al. 2012) of the photograph as instances, from 1."""
    return np.asarray(slic(question.frame.rgb, n_segments=SLIC_SEGMENTS, start_label=1))


def regions(question: Question) -> npt.NDArray[Any]:
    """Segments of equal colour, from 1 (Felzenszwalb & Huttenlocher 2004)."""
    rgb = question.frame.rgb
    least = round(least_area(rgb[..., 0].size))
    return np.asarray(felzenszwalb(rgb, scale=200, sigma=0.8, min_size=max(least, 1))) + 1


def at_click(question: Question, ids: npt.NDArray[Any]) -> Bool:
    assert question.click is not None
    return np.asarray(ids == ids[question.click])


def fit(values: Float, size: tuple[int, int]) -> Float:
    """(h, w[, C]) -> (H, W[, C]), bilinear: means are of training's size."""
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR))


def mean_colours(task: str, other: list[Frame]) -> Baseline:
    """The mean of the colours that training asks for, decoded like an answer."""
    mean = np.mean([colours_of(frame, task) for frame in other], axis=0).astype(np.float32)
    return lambda question: read(task, TASKS[task].decode(fit(mean, question.size)))


def mean_of_category(other: list[Frame]) -> Baseline:
    """By category the mean mask of the scenes that show it; nothing for one that none shows."""
    questions = [question for frame in other for question in possible("semantic", frame)]
    masks = defaultdict(list)
    for question in questions:
        masks[question.category].append(question.mask)
    means = {name: np.mean(shown, axis=0, dtype=np.float32) for name, shown in masks.items()}
    nothing = np.zeros(other[0].depth.shape, np.float32)
    return cut(lambda q: fit(means.get(q.category, nothing), q.size), questions)


def mean_mask(other: list[Frame]) -> Baseline:
    """The mean mask of all instances, wherever the click is."""
    questions = [question for frame in other for question in possible("point", frame)]
    total = np.zeros(other[0].depth.shape, np.float32)
    for question in questions:
        total += question.mask
    mean = total / max(len(questions), 1)
    return cut(lambda question: fit(mean, question.size), questions)


def mean_around_click(other: list[Frame]) -> Baseline:
    """The mean mask of all instances, moved so that every click is at the same place."""
    questions = [question for frame in other for question in possible("point", frame)]
    height, width = other[0].depth.shape
    total = np.zeros((2 * height, 2 * width), np.float32)
    for question in questions:
        total[window(question)] += question.mask
    mean = total / max(len(questions), 1)
    return cut(lambda q: fit(mean, (2 * q.size[0], 2 * q.size[1]))[window(q)], questions)


def window(question: Question) -> tuple[slice, slice]:
    """Where the frame lies on a canvas of twice its size that has the click in the middle."""
    assert question.click is not None
    (height, width), (row, column) = question.size, question.click
    return slice(height - row, 2 * height - row), slice(width - column, 2 * width - column)


def cut(mean: Callable[[Question], Float], questions: list[Question]) -> Baseline:
    """The mask of a mean, at the level that does best on the scenes that it is the mean of."""
    pairs = [(mean(question), question.mask) for question in questions]

    def worth(level: float) -> float:
        return float(np.mean([metrics.mask_iou(soft >= level, mask) for soft, mask in pairs]))

    best = max(LEVELS, key=worth) if pairs else LEVELS[-1]
    return lambda question: mean(question) >= best


def mean_person(other: list[Frame]) -> Baseline:
    """Every joint at its mean place over all people; none without people."""
    people = [
        np.where(visible[:, None], points, np.nan) / np.float32(frame.depth.shape[::-1])
        for frame in other
        for _, points, visible in frame.keypoints
    ]
    if not people:
        return lambda question: np.zeros((0, 2), np.float32)
    joints = np.stack(people)
    seen = np.isfinite(joints).any(axis=(0, 2))
    mean = np.nanmean(joints[:, seen], axis=0)
    return lambda question: mean * np.float32(question.size[::-1])
