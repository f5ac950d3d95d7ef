# SPDX-License-Identifier: Apache-2.0
"""What is kept of an answer, and how sure it is."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.ros.parameters import NodeParameters
from diception_ros.tasks import Instances, Keypoints, Mask, MetricDepth, Result

SPREAD = 0.1
"""Standard deviation of the relative disparity between seeds at which confidence reaches zero."""


def keep(result: Result, parameters: NodeParameters, *, pointed: bool) -> Result:
    """The result without what the filters leave out. pointed: whether it answers points; masks of
    other tasks have a threshold of their own."""
    chosen = parameters.filter
    if isinstance(result, Instances):
        return keep_instances(result, chosen.instance_score, chosen.instance_area)
    if isinstance(result, Mask) and pointed:
        return replace(result, mask=result.score >= chosen.point_score)
    if isinstance(result, Keypoints):
        sure = result.scores >= chosen.keypoint_score
        return Keypoints(result.points[sure], result.scores[sure], result.size)
    return result


def keep_instances(found: Instances, score: float, area: int) -> Instances:
    """Instances of at least this score and area; the others' pixels become 0."""
    kept = tuple(item for item in found.instances if item.score >= score and item.area >= area)
    if len(kept) == len(found.instances):
        return found
    stays = np.zeros(int(found.ids.max(initial=0)) + 1, np.uint16)
    for item in kept:
        stays[item.id] = item.id
    return replace(found, ids=stays[found.ids], instances=kept)


def confidence_of(
    metric: MetricDepth,
    spread: npt.NDArray[np.float32] | None,
    max_residual: float,
    error: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.uint8]:
    """(H, W) uint8: 0 where the depth is unknown, else at least 1, less with the relative error
    expected of the scale fit (error (H, W), else its residual; 0 at max_residual) and with the
    spread between seeds (0 at SPREAD)."""
    sure = np.full(metric.valid.shape, metric.residual, np.float32) if error is None else error
    if max_residual > 0:
        sure = np.clip(1 - sure / np.float32(max_residual), 0, 1)
    else:
        sure = np.ones_like(sure)
    if spread is not None:
        sure *= np.clip(1 - spread / SPREAD, 0, 1)
    levels = np.asarray(cv2.convertScaleAbs(sure, alpha=255), np.uint8)
    return np.asarray(np.maximum(levels, 1, out=levels) * metric.valid, np.uint8)
