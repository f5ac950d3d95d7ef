# SPDX-License-Identifier: Apache-2.0
"""Pinhole intrinsics and the rays of their pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Intrinsics:
    """fx, fy, cx, cy in pixels of a width x height image; the top-left pixel's centre is (0, 0)."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        for name in ("fx", "fy"):
            value = getattr(self, name)
            if not math.isfinite(value) or value <= 0:
                raise ValueError(
                    f"focal length {name} must be positive, found {value:g}: "
                    "is the camera calibrated?"
                )
        if not (math.isfinite(self.cx) and math.isfinite(self.cy)):
            raise ValueError(f"principal point must be finite, found ({self.cx:g}, {self.cy:g})")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"image size must be positive, found {self.width}x{self.height}")

    def scaled(self, width: int, height: int) -> Intrinsics:
        """The same camera for an image resized to width x height. Pixel centres lie at whole
        numbers, so the half-pixel border scales, too (as OpenCV and image_proc resize)."""
        x, y = width / self.width, height / self.height
        cx, cy = (self.cx + 0.5) * x - 0.5, (self.cy + 0.5) * y - 0.5
        return Intrinsics(self.fx * x, self.fy * y, cx, cy, width, height)

    def slopes(self) -> tuple[Float, Float]:
        """x / z of every column (W,) and y / z of every row (H,)."""
        across = (np.arange(self.width) - self.cx) / self.fx
        down = (np.arange(self.height) - self.cy) / self.fy
        return across.astype(np.float32), down.astype(np.float32)

    def rays(self) -> Float:
        """(H, W, 3): direction of every pixel's ray in the optical frame, scaled to z = 1."""
        rays = np.ones((self.height, self.width, 3), np.float32)
        across, down = self.slopes()
        rays[..., 0] = across
        rays[..., 1] = down[:, None]
        return rays
