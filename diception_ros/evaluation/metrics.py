# SPDX-License-Identifier: Apache-2.0
"""The few scores that demo and training watch, of one image at a time; all are in protocols/.

Every depth score carries its protocol: rows of different protocols must never be mixed in one
column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.protocols.depth import (
    AFFINE_DISPARITY,
    METRIC,
    align_disparity,
    depth_errors,
)
from diception_ros.evaluation.protocols.keypoints import pck_untyped
from diception_ros.evaluation.protocols.masks import best_ious, mask_iou
from diception_ros.evaluation.protocols.normals import normal_errors
from diception_ros.evaluation.protocols.shapes import same_shape

Float = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

AFFINE = AFFINE_DISPARITY

__all__ = [
    "AFFINE",
    "METRIC",
    "DepthScores",
    "NormalScores",
    "depth_affine",
    "depth_metric",
    "keypoint_recall",
    "mask_iou",
    "mean_best_iou",
    "normals",
    "semantic_miou",
]


@dataclass(frozen=True)
class DepthScores:
    """abs_rel: mean |z - gt| / gt. delta1: share with max(z / gt, gt / z) < 1.25.
    rmse: metres. coverage: share of the ground truth's valid pixels that have an answer.
    protocol: AFFINE or METRIC.
    """

    abs_rel: float
    delta1: float
    rmse: float
    coverage: float
    protocol: str


@dataclass(frozen=True)
class NormalScores:
    """Angular error in degrees, and the shares of pixels within 11.25, 22.5 and 30 degrees."""

    mean: float
    median: float
    within_11: float
    within_22: float
    within_30: float


def depth_affine(
    disparity: Float,
    truth_m: Float,
    valid: Bool | None = None,
    *,
    min_m: float = 1e-3,
    max_m: float = 10.0,
) -> DepthScores:
    """Scores of an affine-invariant disparity, scale and shift fitted to this very image.

    disparity (H, W), near = large; truth_m (H, W) metres, NaN or <= 0 invalid; valid (H, W) narrows
    it further. Least squares of scale * d + shift against 1 / truth over the valid pixels, clipped
    at 1e-3, inverted, clipped to [min_m, max_m] (NYU: 1e-3..10 m; KITTI: 1e-5..80 m).
    Source: the evaluation of DICEPTION (arXiv 2502.17157), after MiDaS (Ranftl et al. 2020).
    ValueError when the shapes differ or under two pixels are valid.
    """
    chosen = _valid_truth(disparity, truth_m, valid, at_least=2)
    metres = align_disparity(disparity, truth_m, chosen)[chosen]
    return _depth_scores(np.clip(metres, min_m, max_m), truth_m[chosen], 1.0, AFFINE)


def depth_metric(meters: Float, truth_m: Float, valid: Bool | None = None) -> DepthScores:
    """Scores of metric depth as it stands, nothing fitted to the truth.

    meters (H, W), NaN = unknown: such pixels only lower the coverage. truth_m and valid as in
    depth_affine. Formulas: Eigen et al. 2014 (NIPS), section 4. ValueError as in depth_affine.
    """
    chosen = _valid_truth(meters, truth_m, valid, at_least=1)
    answered = chosen & np.isfinite(meters) & (np.nan_to_num(meters) > 0)
    coverage = float(answered.sum() / chosen.sum())
    if not answered.any():
        return DepthScores(float("nan"), float("nan"), float("nan"), 0.0, METRIC)
    return _depth_scores(meters[answered], truth_m[answered], coverage, METRIC)


def normals(vectors: Float, truth: Float, valid: Bool | None = None) -> NormalScores:
    """Angles between two (H, W, 3) fields of unit vectors of the same frame.

    Pixels whose truth is not a unit vector (zero or NaN) are left out. Shares: Fouhey et al. 2013
    (ICCV), section 5. ValueError when the shapes differ or no pixel is valid.
    """
    errors = normal_errors(vectors, truth, valid)
    within = errors.within_11_25, errors.within_22_5, errors.within_30
    return NormalScores(errors.mean, errors.median, *within)


def mean_best_iou(ids: npt.NDArray[Any], truth: npt.NDArray[Any], *, min_area: int = 1) -> float:
    """Average best overlap: mean over the true instances of the best IoU any found instance has.

    ids, truth (H, W) whole numbers, 0 = none. True instances under min_area pixels are left out;
    NaN when none remains. Source: Uijlings et al. 2013 (IJCV), section 5.2, "ABO".
    """
    same_shape(ids, truth)
    named, areas = np.unique(truth, return_counts=True)
    counted = named[(named != 0) & (areas >= min_area)]
    best = best_ious(ids, [truth == name for name in counted])
    return float(best.mean()) if len(counted) else float("nan")


def semantic_miou(
    classes: npt.NDArray[Any], truth: npt.NDArray[Any], *, ignore: int | None = None
) -> float:
    """Mean IoU over the classes that occur in the truth (H, W whole numbers), `ignore` left out.

    Source: PASCAL VOC segmentation (Everingham et al. 2015, section 4.2.3). NaN without any class.
    """
    same_shape(classes, truth)
    counted = np.ones(truth.shape, np.bool_) if ignore is None else truth != ignore
    scores = [
        mask_iou((classes == name) & counted, (truth == name) & counted)
        for name in np.unique(truth[counted])
    ]
    return float(np.mean(scores)) if scores else float("nan")


def keypoint_recall(
    points: Float,
    truth: Float,
    box: tuple[float, float, float, float],
    *,
    within: float = 0.1,
) -> float:
    """Share of true keypoints with a found one of its own within `within` x the box's longer side.

    points (N, 2), truth (M, 2) pixels (x, y); box (x, y, width, height). The threshold is PCK's
    (Yang & Ramanan 2013); joint types are not compared, so found and true points are matched one to
    one instead, as many as possible. NaN when there is no true keypoint.
    """
    return pck_untyped(points, truth, box, alpha=within)


def _depth_scores(
    found: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    coverage: float,
    protocol: str,
) -> DepthScores:
    errors = depth_errors(found, truth)
    return DepthScores(errors.abs_rel, errors.delta1, errors.rmse, coverage, protocol)


def _valid_truth(found: Float, truth: Float, valid: Bool | None, at_least: int) -> Bool:
    same_shape(found, truth)
    chosen: Bool = np.isfinite(truth) & (np.nan_to_num(truth) > 0)
    if valid is not None:
        chosen = chosen & valid
    if chosen.sum() < at_least:
        raise ValueError(
            f"ground truth has {int(chosen.sum())} valid pixels, at least {at_least} expected: "
            "depth must be in metres, NaN or 0 where unknown"
        )
    return chosen
