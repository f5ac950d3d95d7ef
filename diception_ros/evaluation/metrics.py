# SPDX-License-Identifier: Apache-2.0
"""Metrics on plain arrays. Every depth score carries its protocol: rows of different protocols
must never be mixed in one column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Float = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

AFFINE = "affine disparity"
METRIC = "metric"
MIN_DISPARITY = 1e-3


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
    source, truth = (
        disparity[chosen].astype(np.float64),
        truth_m[chosen].astype(np.float64),
    )
    design = np.stack([source, np.ones_like(source)], axis=1)
    (scale, shift), *_ = np.linalg.lstsq(design, 1.0 / truth, rcond=None)
    aligned = np.maximum(scale * source + shift, MIN_DISPARITY)
    return _depth_scores(np.clip(1.0 / aligned, min_m, max_m), truth, 1.0, AFFINE)


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
    found, truth = (
        meters[answered].astype(np.float64),
        truth_m[answered].astype(np.float64),
    )
    return _depth_scores(found, truth, coverage, METRIC)


def normals(vectors: Float, truth: Float, valid: Bool | None = None) -> NormalScores:
    """Angles between two (H, W, 3) fields of unit vectors of the same frame.

    Pixels whose truth is not a unit vector (zero or NaN) are left out. Shares: Fouhey et al. 2013
    (ICCV), section 5. ValueError when the shapes differ or no pixel is valid.
    """
    _same_shape(vectors, truth)
    length = np.linalg.norm(np.nan_to_num(truth), axis=-1)
    chosen = np.abs(length - 1.0) < 0.05
    if valid is not None:
        chosen &= valid
    if not chosen.any():
        raise ValueError("no pixel of the ground truth holds a unit vector: check the valid mask")
    cosine = np.sum(np.nan_to_num(vectors[chosen]) * truth[chosen], axis=-1)
    angle = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    within = [float((angle < limit).mean()) for limit in (11.25, 22.5, 30.0)]
    return NormalScores(float(angle.mean()), float(np.median(angle)), *within)


def mask_iou(mask: Bool, truth: Bool) -> float:
    """Intersection over union (Jaccard index) of two (H, W) masks; two empty masks agree: 1."""
    _same_shape(mask, truth)
    union = int(np.logical_or(mask, truth).sum())
    return float(np.logical_and(mask, truth).sum() / union) if union else 1.0


def mean_best_iou(ids: npt.NDArray[Any], truth: npt.NDArray[Any], *, min_area: int = 1) -> float:
    """Average best overlap: mean over the true instances of the best IoU any found instance has.

    ids, truth (H, W) whole numbers, 0 = none. True instances under min_area pixels are left out;
    NaN when none remains. Source: Uijlings et al. 2013 (IJCV), section 5.2, "ABO".
    """
    _same_shape(ids, truth)
    found, at_found = np.unique(ids, return_inverse=True)
    named, at_truth = np.unique(truth, return_inverse=True)
    shape = (len(named), len(found))
    cells = at_truth.ravel() * len(found) + at_found.ravel()
    joint = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
    area, area_found = joint.sum(axis=1), joint.sum(axis=0)
    overlap = joint / (area[:, None] + area_found[None, :] - joint)
    overlap[:, found == 0] = 0.0
    counted = (named != 0) & (area >= min_area)
    return float(overlap[counted].max(axis=1).mean()) if counted.any() else float("nan")


def semantic_miou(
    classes: npt.NDArray[Any], truth: npt.NDArray[Any], *, ignore: int | None = None
) -> float:
    """Mean IoU over the classes that occur in the truth (H, W whole numbers), `ignore` left out.

    Source: PASCAL VOC segmentation (Everingham et al. 2015, section 4.2.3). NaN without any class.
    """
    _same_shape(classes, truth)
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
    if len(truth) == 0:
        return float("nan")
    if len(points) == 0:
        return 0.0
    distance = np.linalg.norm(truth[:, None, :] - points[None, :, :], axis=-1)
    missed = distance > within * max(box[2], box[3])
    rows, columns = linear_sum_assignment(missed.astype(np.float64))
    return float((~missed[rows, columns]).sum() / len(truth))


def _depth_scores(
    found: npt.NDArray[np.float64],
    truth: npt.NDArray[np.float64],
    coverage: float,
    protocol: str,
) -> DepthScores:
    ratio = np.maximum(found / truth, truth / found)
    return DepthScores(
        abs_rel=float(np.mean(np.abs(found - truth) / truth)),
        delta1=float(np.mean(ratio < 1.25)),
        rmse=float(np.sqrt(np.mean((found - truth) ** 2))),
        coverage=coverage,
        protocol=protocol,
    )


def _valid_truth(found: Float, truth: Float, valid: Bool | None, at_least: int) -> Bool:
    _same_shape(found, truth)
    chosen: Bool = np.isfinite(truth) & (np.nan_to_num(truth) > 0)
    if valid is not None:
        chosen = chosen & valid
    if chosen.sum() < at_least:
        raise ValueError(
            f"ground truth has {int(chosen.sum())} valid pixels, at least {at_least} expected: "
            "depth must be in metres, NaN or 0 where unknown"
        )
    return chosen


def _same_shape(found: npt.NDArray[Any], truth: npt.NDArray[Any]) -> None:
    if found.shape != truth.shape:
        raise ValueError(
            f"expected the shape of the ground truth {truth.shape}, found {found.shape}: "
            "resize the answer to the input image first"
        )
