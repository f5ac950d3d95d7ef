# SPDX-License-Identifier: Apache-2.0
"""scenes.photo for batches on a device: what a real camera does to a picture."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

Tensor = torch.Tensor
LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99),
    *([99] * 32),
)
"""Quantisation tables of JPEG, ITU-T T.81 annex K."""
YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


class Film:
    """Draws from one generator, on the device of the pictures (B, 3, H, W) float32 in 0..1."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, count: int, low: float, high: float, channels: int = 1) -> Tensor:
        """(count, channels, 1, 1)."""
        shape = (count, channels, 1, 1)
        drawn = torch.rand(shape, generator=self.generator, device=self.generator.device)
        return low + (high - low) * drawn

    def normal(self, count: int, mean: float, deviation: float, channels: int = 1) -> Tensor:
        shape = (count, channels, 1, 1)
        drawn = torch.randn(shape, generator=self.generator, device=self.generator.device)
        return mean + deviation * drawn

    def photograph(self, rgb: Tensor) -> Tensor:
        """Exposure, cast, contrast, blur, vignette, saturation, noise and JPEG: the figures of
        scenes.photo.photograph."""
        count = len(rgb)
        mean = rgb.mean((1, 2, 3), keepdim=True) + 1e-3
        target = self.normal(count, 0.45, 0.13).clamp(0.15, 0.8)
        image = rgb * (target / mean) ** self.uniform(count, 0.5, 1.0)
        image = image * self.normal(count, 1, 0.09, 3).clamp(0.7, 1.3)
        image = 0.5 + (image - 0.5) * self.uniform(count, 0.75, 1.25)
        image = blurred(image, self.uniform(count, 0.35, 0.9))
        image = image * (1 - self.uniform(count, 0, 0.3) * corners(rgb) / 2)
        grey = image.mean(1, keepdim=True)
        image = grey + (image - grey) * self.uniform(count, 0.5, 1.2)
        noise = torch.randn(rgb.shape, generator=self.generator, device=rgb.device)
        image = (image + noise * self.uniform(count, 0, 0.03)).clamp(0, 1)
        packed = jpeg(image, self.uniform(count, 45, 95))
        return torch.where(self.uniform(count, 0, 1) < 0.5, packed, image)

    def jittered(self, rgb: Tensor, wild: float = 0.0) -> Tensor:
        """Gain, cast and gamma on top of the photograph's own, as pool.jittered; far stronger for
        a share `wild` of the pictures, and half of those get a border, black or white."""
        count = len(rgb)
        gains = self.uniform(count, 0.75, 1.25) * self.normal(count, 1, 0.07, 3)
        gamma = self.uniform(count, 0.75, 1.35)
        extreme = self.uniform(count, 0, 1) < wild
        strong = 2 ** self.uniform(count, -1.2, 1.0) * 2 ** self.uniform(count, -0.5, 0.5, 3)
        gains = torch.where(extreme, strong, gains)
        image = (rgb.pow(gamma) * gains).clamp(0, 1)
        framed = extreme & (self.uniform(count, 0, 1) < 0.5)
        return torch.where(framed, self.bordered(image), image)

    def bordered(self, image: Tensor) -> Tensor:
        """Straight bars of up to an eighth of each side."""
        count = len(image)
        y, x = axes(image)
        bars = [self.uniform(count, 0, 0.25) for _ in range(2)]
        outside = (x.abs() > 1 - bars[0]) | (y.abs() > 1 - bars[1])
        return torch.where(outside, (self.uniform(count, 0, 1) < 0.5).float(), image)


def axes(image: Tensor) -> tuple[Tensor, Tensor]:
    """y (1, 1, H, 1) and x (1, 1, 1, W), -1..1 from border to border."""
    height, width = image.shape[-2:]
    y = torch.linspace(-1, 1, height, device=image.device)
    x = torch.linspace(-1, 1, width, device=image.device)
    return y[None, None, :, None], x[None, None, None]


def corners(image: Tensor) -> Tensor:
    """Squared distance from the centre (1, 1, H, W), 2 in the corners."""
    y, x = axes(image)
    return y**2 + x**2


def blurred(image: Tensor, sigma: Tensor) -> Tensor:
    """A Gaussian of sigma (B, 1, 1, 1) pixels, below 1.5: seven taps."""
    taps = [torch.exp(-0.5 * (step / sigma) ** 2) for step in range(4)]
    total = taps[0] + 2 * (taps[1] + taps[2] + taps[3])
    padded = functional.pad(image, (3, 3, 3, 3), mode="reflect")
    for axis in (-1, -2):
        size = padded.shape[axis] - 6
        parts = [taps[abs(s)] * padded.narrow(axis, 3 + s, size) for s in range(-3, 4)]
        padded = torch.stack(parts).sum(0) / total
    return padded


def jpeg(image: Tensor, quality: Tensor) -> Tensor:
    """What JPEG of a quality (B, 1, 1, 1), 1..100, keeps; chroma at half size. H and W must be
    multiples of 16."""
    device = image.device
    to_ycc = torch.tensor(YCC, device=device)
    ycc = torch.einsum("oc,bchw->bohw", to_ycc, image * 255 - 128)
    light = quantised(ycc[:, :1], LUMINANCE, quality)
    chroma = quantised(functional.avg_pool2d(ycc[:, 1:], 2), CHROMINANCE, quality)
    chroma = functional.interpolate(chroma, scale_factor=2, mode="bilinear")
    back = torch.linalg.inv(to_ycc)
    rgb = torch.einsum("oc,bchw->bohw", back, torch.cat([light, chroma], 1))
    return ((rgb + 128) / 255).clamp(0, 1)


def quantised(planes: Tensor, table: tuple[int, ...], quality: Tensor) -> Tensor:
    """(B, C, H, W) after rounding the coefficients of its 8 x 8 blocks."""
    height, width = planes.shape[-2:]
    basis = dct(planes.device)
    blocks = planes.reshape(*planes.shape[:2], height // 8, 8, width // 8, 8).transpose(3, 4)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)[..., None, None]
    steps = torch.tensor(table, device=planes.device).reshape(8, 8)
    steps = ((steps * scale + 50) / 100).floor().clamp(1, 255)
    kept = (basis @ blocks @ basis.T / steps).round() * steps
    return (basis.T @ kept @ basis).transpose(3, 4).reshape(planes.shape)


def dct(device: torch.device) -> Tensor:
    """The orthonormal DCT-II of eight samples, (8, 8)."""
    steps = torch.arange(8, device=device, dtype=torch.float32)
    basis = torch.cos(math.pi / 8 * (steps[None] + 0.5) * steps[:, None]) / 2
    basis[0] /= math.sqrt(2)
    return basis
