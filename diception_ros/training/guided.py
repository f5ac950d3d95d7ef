# SPDX-License-Identifier: Apache-2.0
"""tasks.edges' guided filter for a batch, with gradients: what serving does to a picture before it
is decoded, a training can do before it is compared."""

from __future__ import annotations

import torch
from torch.nn import functional

from diception_ros.tasks.edges import FAINT, SIDE

Tensor = torch.Tensor


def guided(pictures: Tensor, images: Tensor, radius: int) -> Tensor:
    """Brightness of pictures (N, 3, H, W) along the edges of images (N, 3, H, W) in 0..1, as
    (N, 3, H, W). radius: in pixels of SIDE, as there. No gradient reaches the images."""
    reach = max(1, round(radius * min(pictures.shape[-2:]) / SIDE))
    with torch.no_grad():
        middle = around(images, reach)
        inverse = inverses(images, middle, reach)
    grey = pictures.mean(1, keepdim=True)
    level = around(grey, reach)
    common = around(images * grey, reach) - middle * level
    slope = (inverse * common[:, None]).sum(2)
    offset = around(level - (slope * middle).sum(1, keepdim=True), reach)
    found = (around(slope, reach) * images).sum(1, keepdim=True) + offset
    return found.expand_as(pictures)


def inverses(images: Tensor, middle: Tensor, reach: int) -> Tensor:
    """(N, 3, 3, H, W): of the covariances around every pixel."""
    products = around((images[:, :, None] * images[:, None]).flatten(1, 2), reach)
    spread = products.unflatten(1, (3, 3)) - middle[:, :, None] * middle[:, None]
    spread = spread + FAINT * torch.eye(3, device=images.device)[:, :, None, None]
    first, second, third = spread.unbind(1)
    rows = [
        torch.linalg.cross(second, third, dim=1),
        torch.linalg.cross(third, first, dim=1),
        torch.linalg.cross(first, second, dim=1),
    ]
    return torch.stack(rows, 1) / (first * rows[0]).sum(1)[:, None, None]


def around(values: Tensor, reach: int) -> Tensor:
    """Mean (N, C, H, W) over the square around every pixel; mirrored at the border."""
    padded = functional.pad(values, (reach,) * 4, mode="reflect")
    return functional.avg_pool2d(padded, 2 * reach + 1, stride=1)
