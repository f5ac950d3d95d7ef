# SPDX-License-Identifier: Apache-2.0
"""Segments found at a working size -> instances of the full image, with edges redrawn."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.tasks.boxes import Box, cut, find_boxes
from diception_ros.tasks.colours import Labels, Pixels, squared_norm
from diception_ros.tasks.types import Float, Instance

WORKING_SIDE = 320
"""Longest side that colours are clustered at: averaging on the way removes noise, too."""
IMPURE = 64.0
"""Mean distance of a segment's pixels from its colour at which its score reaches zero."""

Ids = npt.NDArray[np.uint16]


def sharpen(segments: Labels, colours: Float, pixels: Pixels | Float) -> Ids:
    """Segments at the size of pixels (H, W, C): every pixel near an edge goes to the neighbouring
    segment whose colour (N + 1, C) is nearest to its own."""
    height, width = pixels.shape[:2]
    resized = cv2.resize(
        segments.astype(np.uint16), (width, height), interpolation=cv2.INTER_NEAREST
    )
    ids = np.asarray(resized, np.uint16).reshape(height, width)
    reach = 1 + max(height, width) // WORKING_SIDE  # what shrinking and smoothing can have moved
    kernel = np.ones((2 * reach + 1,) * 2, np.uint8)
    high = np.asarray(cv2.dilate(ids, kernel)).reshape(ids.shape)
    low = np.asarray(cv2.erode(ids, kernel)).reshape(ids.shape)
    edge = np.flatnonzero(high != low)
    own = pixels.reshape(-1, pixels.shape[2])[edge].astype(np.float32)
    first, second = high.ravel()[edge], low.ravel()[edge]
    nearer = squared_norm(own - colours[first]) <= squared_norm(own - colours[second])
    ids.ravel()[edge] = np.where(nearer, first, second)
    return ids


def purity(segments: Labels, smooth: Pixels, colours: Float) -> Float:
    """How close every segment's pixels lie to its own colour, (N + 1,) in 0..1."""
    segments, smooth = segments[::2, ::2], smooth[::2, ::2]  # a quarter of the pixels tells enough
    away = np.sqrt(squared_norm(smooth - colours[segments]))
    counts = np.bincount(segments.ravel(), minlength=len(colours))
    total = np.bincount(segments.ravel(), away.ravel(), len(colours))
    mean = total / np.maximum(counts, 1)
    return np.clip(1 - mean / IMPURE, 0, 1).astype(np.float32)


def describe(
    ids: Ids, segments: Labels, scores: npt.NDArray[np.floating[Any]]
) -> tuple[Instance, ...]:
    """Measures at full size every instance that is left in `ids`."""
    areas = cv2.calcHist([ids], [0], None, [len(scores)], [0, len(scores)]).ravel()
    middles = middle_of(segments, ids.shape)
    return tuple(
        Instance(
            number,
            float(scores[number]),
            (box[1], box[0], box[3] - box[1], box[2] - box[0]),
            int(areas[number]),
            inside(ids, number, box, middles[number]),
        )
        for number, box in find_boxes(ids).items()
    )


def middle_of(segments: Labels, size: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Centre of mass (N + 1, 2) of every segment as (row, column) of an image of `size`."""
    flat, counts = segments.ravel(), np.maximum(np.bincount(segments.ravel()), 1)
    grids = np.indices(segments.shape, np.float32)
    means = np.stack([np.bincount(flat, grid.ravel()) / counts for grid in grids], axis=1)
    return (means + 0.5) * (np.array(size) / segments.shape) - 0.5


def inside(ids: Ids, number: int, box: Box, middle: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The pixel (x, y) of the instance that is nearest to `middle` (row, column)."""
    row, column = round(float(middle[0])), round(float(middle[1]))
    height, width = ids.shape
    if 0 <= row < height and 0 <= column < width and ids[row, column] == number:
        return float(column), float(row)
    y, x = np.nonzero(ids[cut(box)] == number)
    nearest = int(((y + box[0] - middle[0]) ** 2 + (x + box[1] - middle[1]) ** 2).argmin())
    return float(x[nearest] + box[1]), float(y[nearest] + box[0])
