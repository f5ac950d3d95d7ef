# SPDX-License-Identifier: Apache-2.0
"""Pictures of a small network, which are coarser than the image, brought to the image's edges.

Colours in, colours out, before any decoding: what a task's colours mean does not matter here.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.tasks.types import Float

SIDE = 128
"""Shorter side that edges are followed at: what a small network's canvas has."""
FAINT = 3e-4
"""Variance of the image, in 0..1 squared, under which `edges` sees none: 1.7% of its range."""


class Guide:
    """An image (H, W, 3) uint8 whose edges pictures shall follow; what it gives is computed once
    for all of them, and not before one asks. Threads may share it."""

    def __init__(self, image: npt.NDArray[np.uint8]) -> None:
        self._image, self.size = image, image.shape[1::-1]
        self._statistics: dict[int, tuple[Float, Float]] = {}

    @cached_property
    def small(self) -> Float:
        """The image at SIDE, in 0..1."""
        return np.asarray(shrunk(self._image) / np.float32(255), np.float32)

    @cached_property
    def _planes(self) -> list[Float]:
        return [np.asarray(p / np.float32(255), np.float32) for p in cv2.split(self._image)]

    def filtered(self, channel: Float, radius: int) -> Float:
        """A channel (H, W) as a linear function of the image around every pixel, in 0..1: the
        guided filter of He, Sun and Tang (2013), its coefficients found at SIDE (He and Sun 2015,
        arXiv 1505.00996). radius: of the square that is around, in pixels at SIDE."""
        if radius not in self._statistics:
            self._statistics[radius] = self._measured(radius)
        middle, inverses = self._statistics[radius]
        small = np.asarray(shrunk(channel), np.float32)[..., None]
        level = box_mean(small, radius)
        common = box_mean(self.small * small, radius) - middle * level
        slope = (inverses * common[..., None, :]).sum(-1)
        line = np.concatenate([slope, level - (slope * middle).sum(-1, keepdims=True)], axis=-1)
        *slopes, total = (
            cv2.resize(plane, self.size, interpolation=cv2.INTER_LINEAR)
            for plane in cv2.split(box_mean(line, radius))
        )
        for part, plane in zip(slopes, self._planes, strict=True):
            cv2.accumulateProduct(part, plane, total)
        return np.asarray(np.clip(total, 0, 1, out=total))

    def _measured(self, radius: int) -> tuple[Float, Float]:
        """Means (h, w, 3) and inverse covariances (h, w, 3, 3) around every pixel."""
        middle = box_mean(self.small, radius)
        products = self.small[..., :, None] * self.small[..., None, :]
        spread = box_mean(products.reshape(*middle.shape[:2], 9), radius)
        spread = spread.reshape(products.shape)
        spread += FAINT * np.eye(3, dtype=np.float32)
        spread -= middle[..., :, None] * middle[..., None, :]
        return middle, inverse(spread)


def shrunk(picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """At most SIDE on the shorter side, by area averaging."""
    scale = SIDE / min(picture.shape[:2])
    if scale >= 1:
        return picture
    size = [round(side * scale) for side in picture.shape[1::-1]]
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def box_mean(values: npt.NDArray[Any], radius: int) -> Float:
    """Mean (h, w, N) over the square of 2 radius + 1 pixels around each; mirrored at the border."""
    side = 2 * radius + 1
    planes = [cv2.blur(plane, (side, side)) for plane in cv2.split(values)]
    return np.asarray(np.stack(planes, axis=-1), np.float32)


def inverse(matrices: Float) -> Float:
    """Of symmetric matrices (h, w, 3, 3), in a tenth of numpy.linalg's time."""
    first, second, third = np.moveaxis(matrices, -2, 0)
    rows = [np.cross(second, third), np.cross(third, first), np.cross(first, second)]
    determinants = (first * rows[0]).sum(-1)[..., None, None]
    return np.asarray(np.stack(rows, axis=-2) / determinants, np.float32)
