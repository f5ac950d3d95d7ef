# SPDX-License-Identifier: Apache-2.0
"""Normals: angular errors in degrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.protocols.shapes import same_shape

Array = npt.NDArray[Any]
Bool = npt.NDArray[np.bool_]
UNIT = 0.05
"""How far a true vector's length may be from 1."""


@dataclass(frozen=True)
class NormalErrors:
    """Degrees, and the shares of pixels under 5, 7.5, 11.25, 22.5 and 30 degrees. pixels: how many
    were counted, for pooling over images.
    """

    mean: float
    median: float
    rmse: float
    within_5: float
    within_7_5: float
    within_11_25: float
    within_22_5: float
    within_30: float
    pixels: int


def angles(vectors: Array, truth: Array) -> npt.NDArray[np.float64]:
    """Angle in degrees between two (..., 3) fields; the lengths of the vectors do not matter,
    a zero or NaN answer is a right angle off."""
    a, b = np.nan_to_num(vectors).astype(np.float64), np.nan_to_num(truth).astype(np.float64)
    length = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine = np.zeros(length.shape)
    np.divide((a * b).sum(axis=-1), length, out=cosine, where=length > 0)
    found: npt.NDArray[np.float64] = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    return found


def known(truth: Array) -> Bool:
    """(H, W): where the truth (H, W, 3) holds a unit vector."""
    length = np.linalg.norm(np.nan_to_num(truth.astype(np.float64)), axis=-1)
    mask: Bool = np.abs(length - 1.0) < UNIT
    return mask


def normal_errors(vectors: Array, truth: Array, valid: Bool | None = None) -> NormalErrors:
    """Errors of (H, W, 3) unit vectors of one frame; pixels without a true unit vector are left
    out, and those outside `valid`. An answer that is no direction (NaN, 0) counts as 90 degrees.

    Thresholds: Fouhey et al. 2013 (11.25, 22.5, 30); Bae et al. 2021 and 2024 (5, 7.5), who pool
    the pixels of all images before they average. ValueError for shapes that differ or no pixel.
    """
    same_shape(vectors, truth)
    chosen = known(truth) if valid is None else known(truth) & valid
    if not chosen.any():
        raise ValueError("no pixel of the ground truth holds a unit vector: check the valid mask")
    return summarize_angles(angles(vectors[chosen], truth[chosen]))


def summarize_angles(angle: npt.NDArray[np.float64]) -> NormalErrors:
    """The errors of flat angles in degrees, of one image or of many put together."""
    within = [float((angle < limit).mean()) for limit in (5, 7.5, 11.25, 22.5, 30)]
    return NormalErrors(
        float(angle.mean()),
        float(np.median(angle)),
        float(np.sqrt((angle**2).mean())),
        within[0],
        within[1],
        within[2],
        within[3],
        within[4],
        angle.size,
    )
