# SPDX-License-Identifier: Apache-2.0
"""Average precision over frames: what is given to pycocotools of each, and the figures it makes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diception_ros.evaluation.answers import Answers
from diception_ros.evaluation.datasets.sample import Object, Sample
from diception_ros.evaluation.figures import HIGHER, Draws, Figure, Metric
from diception_ros.evaluation.protocols.average_precision import (
    JOINTS,
    Detections,
    Person,
    Segment,
    encode,
)

SLOW_RESAMPLES = 200
"""Of average precision, which has to be accumulated anew each time."""


def segments_of(
    answers: Answers, sample: Sample, objects: Sequence[Object]
) -> tuple[list[Segment], list[Segment]]:
    """Found and true segments as pycocotools keeps them."""
    ids = answers.ids
    assert ids is not None
    found = [
        encode(ids == i, score=answers.scores.get(int(i), 1.0)) for i in np.unique(ids) if i > 0
    ]
    true = [encode(one.mask(sample.size), crowd=one.crowd, area=one.area) for one in objects]
    return found, true


def people_of(answers: Answers, objects: Sequence[Object]) -> tuple[list[Person], list[Person]]:
    """Found and true people as pycocotools takes them; objects without joints, even unlabelled
    ones, are no people. ValueError if the answered joints are not COCO's 17."""
    assert answers.people is not None
    scores = (
        answers.people_scores if answers.people_scores is not None else np.ones(len(answers.people))
    )
    found = [
        Person(np.column_stack([points, np.ones(len(points))]), score=float(score))
        for points, score in zip(answers.people, scores, strict=True)
    ]
    true = [
        Person(one.keypoints, one.area or float(one.pixels), one.bbox or one.box, crowd=one.crowd)
        for one in objects
        if len(one.keypoints) == JOINTS
    ]
    return found, true


def precision_figures(
    shown: Mapping[str, tuple[Sequence[Any], ...]], task: str, protocol: str, draws: Draws
) -> list[Figure]:
    """COCO's numbers for what was found and what is true in each frame (segments, or people for the
    task pose), each with SLOW_RESAMPLES replicates; NaN where there is one unit to draw."""
    names = sorted(shown)
    kind = "keypoints" if task == "pose" else "segm"
    judged = Detections(
        [shown[name][0] for name in names], [shown[name][1] for name in names], kind
    )
    value = judged.stats()
    drawn = [judged.stats(rows) for rows in draws.resamples(names, SLOW_RESAMPLES)]
    drawn = drawn or [dict.fromkeys(judged.names, math.nan)]
    return [
        Figure(
            Metric(task, protocol, stat, "", HIGHER),
            {name: {} for name in names},
            value[stat],
            tuple(replicate[stat] for replicate in drawn),
        )
        for stat in judged.names
        if np.isfinite(value[stat])
    ]
