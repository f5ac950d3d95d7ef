# SPDX-License-Identifier: Apache-2.0
"""From an answer to figures. An answer is the part of a task's result that is scored:
disparity (H, W), vectors (H, W, 3), ids (H, W), a mask (H, W) or keypoints (N, 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from diception_ros.evaluation import metrics
from diception_ros.tasks import Result
from diception_ros.training.measure.questions import JOINTS, Question, smallest_instance

Answer = npt.NDArray[Any]
Scores = dict[str, float]
FARTHEST_M = 80.0
WITHIN = 0.05
"""Share of the longer side of a person's box within which a keypoint counts as found."""
FIELDS = {
    "depth": "values",
    "normal": "vectors",
    "entity": "ids",
    "semantic": "ids",
    "point": "mask",
    "pose": "points",
}


class Answered(NamedTuple):
    """colours (H, W, 3) float32 in [0, 1] as generated, and what serving makes of them."""

    colours: npt.NDArray[np.float32]
    result: Result


def read(task: str, result: Result) -> Answer:
    """The part of a result that is scored."""
    answer: Answer = getattr(result, FIELDS[task])
    return answer > 0 if task == "semantic" else answer


def score(question: Question, answer: Answer) -> Scores:
    """The task's metrics of one answer, of the size of the question's frame."""
    frame = question.frame
    match question.task:
        case "depth":
            depth = metrics.depth_affine(answer, frame.depth, max_m=FARTHEST_M)
            return {"delta1": depth.delta1, "abs_rel": depth.abs_rel}
        case "normal":
            angle = metrics.normals(answer, frame.normals)
            shares = {"within_11": angle.within_11}
            return {"mean_deg": angle.mean, "median_deg": angle.median, **shares}
        case "entity":
            least = smallest_instance(frame)
            return {"best_iou": metrics.mean_best_iou(answer, frame.instances, min_area=least)}
        case "pose":
            return keypoint_scores(question, answer)
    return {"iou": metrics.mask_iou(answer, question.mask)}


def keypoint_scores(question: Question, found: Answer) -> Scores:
    """recall: mean over the people with JOINTS or more visible keypoints; precision: share of the
    found points that match a visible keypoint of anybody, within WITHIN of the largest person's
    box, 0 when nothing was found; found_per_true: how many points were found for each true one.
    """
    people = [points[visible] for _, points, visible in question.frame.keypoints]
    counted = [points for points in people if len(points) >= JOINTS]
    boxes = [(*points.min(axis=0).tolist(), *np.ptp(points, axis=0).tolist()) for points in counted]
    pairs = zip(counted, boxes, strict=True)
    recalls = [metrics.keypoint_recall(found, points, box, within=WITHIN) for points, box in pairs]
    everyone, largest = np.concatenate(people), max(boxes, key=lambda box: max(box[2:]))
    matched = metrics.keypoint_recall(everyone, found, largest, within=WITHIN)
    return {
        "recall": float(np.mean(recalls)),
        "precision": matched if len(found) else 0.0,
        "found_per_true": len(found) / len(everyone),
    }


def average(questions: Sequence[Question], scores: Sequence[Scores]) -> Scores:
    """Mean of every metric over the questions. Semantic masks also get miou: the mean over the
    categories of their mean IoU, so that frequent ones do not hide the rest.
    """
    means = {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}
    if questions[0].task == "semantic":
        names = np.array([question.category for question in questions])
        ious = np.array([score["iou"] for score in scores])
        means["miou"] = float(np.mean([ious[names == name].mean() for name in np.unique(names)]))
    return means
