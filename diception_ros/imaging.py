# SPDX-License-Identifier: Apache-2.0
"""Canvas: the only place that knows the network's resolution; pixels and points both ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

PointOrder = Literal["row-col", "col-row"]
POINT_TOKENS = 5


@dataclass(frozen=True)
class Canvas:
    """The network's input and output size in pixels. Aspect ratio is not kept, as in training."""

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 16 or self.width < 16 or self.height % 16 or self.width % 16:
            raise ValueError(
                f"canvas {self.height}x{self.width}: height and width must be positive multiples "
                "of 16 (8 pixels a latent, 2 latents a patch)"
            )

    def to_model(self, image: npt.NDArray[np.uint8] | torch.Tensor) -> torch.Tensor:
        """RGB uint8 (H, W, 3) -> float32 (3, height, width) in [-1, 1] where the image is, bilinear
        with antialias (the resize of the authors' batch loader)."""
        if not isinstance(image, torch.Tensor):
            image = torch.from_numpy(np.ascontiguousarray(check_rgb(image)))
        pixels = image.permute(2, 0, 1)
        scaled = resize(pixels.float().unsqueeze(0), (self.height, self.width))[0]
        return scaled.div_(127.5).sub_(1.0).clamp_(-1.0, 1.0)

    def from_model(self, image: torch.Tensor, size: tuple[int, int]) -> npt.NDArray[np.float32]:
        """`resized_back` on the host."""
        found: npt.NDArray[np.float32] = self.resized_back(image, size).cpu().numpy()
        return found

    def resized_back(self, image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Generated (3, h, w) in [0, 1] -> float32 (H, W, 3) at size = (H, W), bilinear, where it
        is. On a CPU OpenCV enlarges ten times as fast."""
        larger = size[0] >= image.shape[1] and size[1] >= image.shape[2]
        if image.device.type == "cpu" and larger:
            small = image.detach().float().clamp(0.0, 1.0).permute(1, 2, 0).contiguous().numpy()
            return torch.from_numpy(cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR))
        scaled = resize(image.detach().float().unsqueeze(0), size)[0].clamp(0.0, 1.0)
        return scaled.permute(1, 2, 0).contiguous()

    def points_to_model(
        self,
        points: Sequence[tuple[float, float]],
        labels: Sequence[int],
        size: tuple[int, int],
        order: PointOrder = "row-col",
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Pixels (x, y) of an image of size (H, W) -> (5, 2) in 0..1 in the bundle's axis order and
        (5,) labels. No labels means all inside (1); unused points are (0, 0) with label 0.
        ValueError for more than five points or one outside the image."""
        height, width = size
        if len(points) > POINT_TOKENS:
            raise ValueError(f"at most {POINT_TOKENS} points, got {len(points)}")
        placed = np.zeros((POINT_TOKENS, 2), np.float32)
        marks = np.zeros(POINT_TOKENS, np.int64)
        for i, (x, y) in enumerate(points):
            if not (0 <= x < width and 0 <= y < height):
                raise ValueError(
                    f"point ({x:g}, {y:g}) lies outside the {width}x{height} image: expected "
                    f"0 <= x < {width} and 0 <= y < {height}"
                )
            placed[i] = (y / height, x / width) if order == "row-col" else (x / width, y / height)
            marks[i] = labels[i] if labels else 1
        return placed, marks


def check_rgb(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The image itself; ValueError unless it is a non-empty uint8 array of shape (H, W, 3)."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(
            f"expected a non-empty RGB image, uint8 (H, W, 3), got {image.dtype} {image.shape}"
        )
    return image


def resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear, antialiased when shrinking: (B, C, h, w) -> (B, C, *size)."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return functional.interpolate(
        images, size=size, mode="bilinear", antialias=True, align_corners=False
    )
