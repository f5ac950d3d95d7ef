# SPDX-License-Identifier: Apache-2.0
"""The demo's figures: how fast every output came, and how right it was where the truth is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diception_ros.evaluation import metrics
from diception_ros.evaluation.material import DemoFrame

Answers = Mapping[str, npt.NDArray[Any]]
"""Arrays by output name (OUTPUTS) that answer one frame."""

OUTPUTS = {
    "depth": "/diception/disparity_relative/image",
    "metric depth": "/diception/depth/image",
    "normal": "/diception/normals/image",
    "entity": "/diception/entity/mask",
    "semantic": "/diception/semantic/mask",
    "point": "/diception/point/mask",
    "pose": "/diception/pose/keypoints",
}
"""The message that holds each answer, by the name it has in the table."""

SMALLEST_INSTANCE = 100
"""px; smaller true objects are left out of the entity score."""


@dataclass(frozen=True)
class Score:
    """One figure of one frame. group: "rendered" or "photographs"; never averaged together."""

    output: str
    metric: str
    group: str
    value: float


@dataclass(frozen=True)
class Summary:
    """The mean of one metric over the frames of a group that have that truth."""

    output: str
    metric: str
    group: str
    value: float
    frames: int


@dataclass(frozen=True)
class Timing:
    """messages and rate (Hz) of the phase at a fixed rate; latency in ms from the image's stamp to
    the recorder, over all phases: median and 95th percentile.
    """

    output: str
    messages: int
    rate: float
    p50: float
    p95: float


def score_frame(frame: DemoFrame, answers: Answers, categories: Sequence[str] = ()) -> list[Score]:
    """Every figure that the frame's truth and the answers at hand allow. categories: the node's, in
    the order of their ids from 1.
    """
    group = "rendered" if frame.sequence else "photographs"
    found: list[tuple[str, str, float]] = []
    if frame.depth_m is not None:
        found += _depth(frame.depth_m, answers)
    if frame.normals is not None and "normal" in answers:
        normal = metrics.normals(answers["normal"], frame.normals)
        found.append(("normal", "mean angle, deg", normal.mean))
        found.append(("normal", "within 11.25 deg", normal.within_11))
    if frame.ids is not None and "entity" in answers:
        best = metrics.mean_best_iou(answers["entity"], frame.ids, min_area=SMALLEST_INSTANCE)
        found.append(("entity", "mean best IoU", best))
    if frame.keypoints is not None and "pose" in answers:
        found += _pose(answers["pose"], frame)
    if frame.point_mask is not None and "point" in answers:
        found.append(("point", "IoU", metrics.mask_iou(answers["point"] > 0, frame.point_mask)))
    if frame.classes is not None and "semantic" in answers:
        truth = classes_as_asked(frame, categories)
        found.append(("semantic", "mIoU", metrics.semantic_miou(answers["semantic"], truth)))
    return [Score(output, metric, group, value) for output, metric, value in found]


def classes_as_asked(frame: DemoFrame, categories: Sequence[str]) -> npt.NDArray[np.uint8]:
    """The true classes (H, W) under the node's ids; what the node was not asked for is 0."""
    assert frame.classes is not None
    table = np.zeros(len(frame.class_names) + 1, np.uint8)
    for i, name in enumerate(frame.class_names, start=1):
        table[i] = categories.index(name) + 1 if name in categories else 0
    return table[frame.classes]


def _depth(truth: npt.NDArray[np.float32], answers: Answers) -> list[tuple[str, str, float]]:
    found = []
    if "depth" in answers:
        affine = metrics.depth_affine(answers["depth"], truth)
        found.append(("depth", f"AbsRel, {affine.protocol} aligned", affine.abs_rel))
        found.append(("depth", f"delta1, {affine.protocol} aligned", affine.delta1))
        plane = best_plane(truth)
        found.append(("depth", "AbsRel of the best plane, to compare", plane.abs_rel))
        found.append(("depth", "delta1 of the best plane, to compare", plane.delta1))
    if "metric depth" in answers:
        absolute = metrics.depth_metric(answers["metric depth"], truth)
        found.append(("metric depth", "AbsRel, metres", absolute.abs_rel))
        found.append(("metric depth", "delta1, metres", absolute.delta1))
    return found


def best_plane(truth: npt.NDArray[np.float32]) -> metrics.DepthScores:
    """What one knows without looking: the plane (linear in disparity) that fits the truth best."""
    y, x = np.mgrid[: truth.shape[0], : truth.shape[1]]
    chosen = np.isfinite(truth) & (np.nan_to_num(truth) > 0)
    design = np.stack([x[chosen], y[chosen], np.ones(chosen.sum())], axis=1)
    (a, b, c), *_ = np.linalg.lstsq(design, 1.0 / truth[chosen].astype(np.float64), rcond=None)
    return metrics.depth_affine((a * x + b * y + c).astype(np.float32), truth)


def _pose(points: npt.NDArray[np.float32], frame: DemoFrame) -> list[tuple[str, str, float]]:
    """The mean over the people: joints found within 10% of the longer side of the person's box."""
    assert frame.keypoints is not None
    assert frame.people is not None
    recalls = []
    for person in np.unique(frame.people):
        joints = frame.keypoints[frame.people == person]
        (x, y), (right, bottom) = joints.min(axis=0), joints.max(axis=0)
        box = (float(x), float(y), float(right - x), float(bottom - y))
        recalls.append(metrics.keypoint_recall(points, joints, box))
    return [("pose", "joints found within 10%", float(np.mean(recalls)))] if recalls else []


def summarize(scores: Iterable[Score]) -> list[Summary]:
    """Means by output, metric and group, NaN left out; by output as in OUTPUTS, rendered first."""
    grouped: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for score in scores:
        if np.isfinite(score.value):
            grouped[(score.output, score.metric, score.group)].append(score.value)
    found = [Summary(*key, float(np.mean(values)), len(values)) for key, values in grouped.items()]
    order = list(OUTPUTS)
    return sorted(found, key=lambda one: (order.index(one.output), one.group != "rendered"))


def timing(
    output: str,
    arrivals: Sequence[tuple[int, int]],
    phase: Sequence[int],
    seconds: float,
) -> Timing:
    """arrivals: (stamp, received) in ns of one output; phase: the stamps shown at a fixed rate over
    `seconds`.
    """
    during = set(phase)
    messages = sum(stamp in during for stamp, _ in arrivals)
    latencies = [(received - stamp) / 1e6 for stamp, received in arrivals] or [float("nan")]
    p50, p95 = np.percentile(latencies, [50, 95])
    return Timing(output, messages, messages / seconds if seconds else 0.0, float(p50), float(p95))
