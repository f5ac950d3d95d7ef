# SPDX-License-Identifier: Apache-2.0
"""Keypoints: PCK without joint types, and COCO's object keypoint similarity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Array = npt.NDArray[Any]
Box = tuple[float, float, float, float]

COCO_SIGMAS = (
    np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000.0
)
"""How far annotators scatter around each of COCO's 17 joints, in object sizes (COCO keypoint
evaluation; pycocotools' kpt_oks_sigmas)."""


def matched(points: Array, truth: Array, within: float) -> int:
    """How many true points (M, 2) have a found point (N, 2) of their own within `within` pixels, as
    many as a one-to-one assignment allows. A point that is not finite was not found."""
    if not len(points) or not len(truth):
        return 0
    distance = np.linalg.norm(truth[:, None, :2] - points[None, :, :2], axis=-1)
    missed = (~(distance <= within)).astype(np.float64)
    rows, columns = linear_sum_assignment(missed)
    return int((missed[rows, columns] == 0).sum())


def pck_untyped(points: Array, truth: Array, box: Box, *, alpha: float) -> float:
    """Share of true keypoints found within alpha x the longer side of box (x, y, width, height),
    matched one to one whatever their joint. The threshold is PCK's (Yang & Ramanan 2013). NaN
    without a true keypoint."""
    if not len(truth):
        return float("nan")
    return matched(points, truth, alpha * max(box[2], box[3])) / len(truth)


def oks(
    points: Array,
    truth: Array,
    visible: Array,
    area: float,
    sigmas: Sequence[float] | Array = COCO_SIGMAS,
) -> float:
    """Object keypoint similarity of one person: mean over the visible joints of
    exp(-d^2 / (2 area (2 sigma)^2)).

    points, truth (K, 2) pixels, row by row the same joint; visible (K,) bool; area: of the person's
    segment, px^2. Source: COCO keypoint evaluation, cocodataset.org/#keypoints-eval. NaN without a
    visible joint; an answered joint that is not finite is worth 0. ValueError if the counts differ.
    """
    spread = np.asarray(sigmas, np.float64)
    if not len(points) == len(truth) == len(visible) == len(spread):
        raise ValueError(
            f"expected as many points, truths, flags and sigmas, found {len(points)}, "
            f"{len(truth)}, {len(visible)} and {len(spread)}"
        )
    at = np.asarray(visible, np.bool_)
    if not at.any():
        return float("nan")
    difference = np.asarray(points, np.float64) - np.asarray(truth, np.float64)
    squared = np.nan_to_num((difference**2).sum(axis=-1), nan=np.inf)
    similarity = np.exp(-squared / (2 * (area + np.spacing(1)) * (2 * spread) ** 2))
    return float(similarity[at].mean())
