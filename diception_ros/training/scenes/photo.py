# SPDX-License-Identifier: Apache-2.0
"""What a real camera does to a picture: exposure, colour cast, blur, vignette, noise, JPEG.

`photograph` belongs to a scene and its seed; `harsh` is for augmentation, far from the ordinary.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

Rng = np.random.Generator


def photograph(rgb: np.ndarray, seed: int) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (H, W, 3), seeded; geometry is left alone, so labels stay exact."""
    rng = np.random.default_rng([seed, 3])
    image = rgb.astype(np.float32) / 255
    mean = float(image.mean()) + 1e-3
    target = float(np.clip(rng.normal(0.45, 0.13), 0.15, 0.8))
    image = image * (target / mean) ** rng.uniform(0.5, 1.0)
    image = image * np.clip(rng.normal(1, 0.09, 3), 0.7, 1.3)
    image = 0.5 + (image - 0.5) * rng.uniform(0.75, 1.25)
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), rng.uniform(0.35, 0.9))
    height, width = image.shape[:2]
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    image = image * (1 - rng.uniform(0, 0.3) * (rows**2 + columns**2)[..., None] / 2)
    grey = image.mean(-1, keepdims=True)
    image = grey + (image - grey) * rng.uniform(0.5, 1.2)
    image = image + rng.normal(0, rng.uniform(0, 0.03), image.shape)
    pixels = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.5:
        quality = int(rng.integers(45, 95))
        data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return pixels


def harsh(rgb: np.ndarray, rng: Rng) -> np.ndarray:
    """uint8 (H, W, 3) -> a new uint8 (H, W, 3): one or more of EFFECTS. Nothing moves, so labels
    stay; borders cover up to a sixth of a side and hide what the labels still show.
    """
    chosen = rng.random(len(EFFECTS)) < 0.3
    chosen[rng.integers(len(EFFECTS))] = True
    for effect, wanted in zip(EFFECTS, chosen, strict=True):
        if wanted:
            rgb = effect(rgb, rng)
    return rgb


@lru_cache(maxsize=8)
def grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """y (H, 1) and x (1, W), -1..1 from border to border, float32."""
    y, x = np.linspace(-1, 1, height), np.linspace(-1, 1, width)
    return y[:, None].astype(np.float32), x[None].astype(np.float32)


def vignette(rgb: np.ndarray, rng: Rng) -> np.ndarray:
    """Darker by half or more in the corners."""
    y, x = grid(*rgb.shape[:2])
    share = 1 - np.float32(rng.uniform(0.2, 0.45)) * (x**2 + y**2)
    return (rgb * share[..., None]).astype(np.uint8)


def motion_blur(rgb: np.ndarray, rng: Rng) -> np.ndarray:
    """Along a straight line of 2 to 7 hundredths of the width."""
    length = max(3.0, rng.uniform(0.02, 0.07) * rgb.shape[1])
    angle, size = rng.uniform(0, np.pi), int(np.ceil(length)) // 2 * 2 + 1
    way = np.array([np.cos(angle), np.sin(angle)]) * (length - 1) / 2
    start, end = np.round(size // 2 + np.stack([-way, way])).astype(int).tolist()
    kernel = cv2.line(np.zeros((size, size), np.float32), start, end, 1.0)
    return cv2.filter2D(rgb, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)


def low_resolution(rgb: np.ndarray, rng: Rng) -> np.ndarray:
    """A half to a quarter of the pixels a side, enlarged again."""
    height, width = rgb.shape[:2]
    scale = rng.uniform(0.25, 0.5)
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    enlarge = cv2.INTER_LINEAR if rng.random() < 0.5 else cv2.INTER_NEAREST
    reduced = cv2.resize(rgb, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(reduced, (width, height), interpolation=enlarge)


def exposure(rgb: np.ndarray, rng: Rng) -> np.ndarray:
    """Far too bright with burnt highlights, or far too dark: a mean over 0.65 or under 0.2."""
    mean = rng.uniform(0.65, 0.85) if rng.random() < 0.5 else rng.uniform(0.06, 0.2)
    return through(rgb, np.full(3, mean * 255 / max(float(rgb.mean()), 1.0)))


def cast(rgb: np.ndarray, rng: Rng) -> np.ndarray:
    """Sodium lamps, shade, fluorescent tubes: the channels up to four times apart."""
    gains = 2.0 ** rng.uniform(-1, 1, 3)
    return through(rgb, gains / gains.mean())


def through(rgb: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """The channels times gains (3,), cut off at white."""
    table = np.clip(np.arange(256)[:, None] * gains, 0, 255).astype(np.uint8)
    return cv2.LUT(rgb, np.ascontiguousarray(table[None]))


def jpeg(rgb: np.ndarray, rng: Rng) -> np.ndarray:
    """Quality 6 to 40."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(6, 41))]
    return cv2.imdecode(cv2.imencode(".jpg", rgb, flags)[1], cv2.IMREAD_COLOR)


def borders(rgb: np.ndarray, rng: Rng) -> np.ndarray:
    """What undistorting a wide lens leaves, black or white and bent inwards, or straight bars."""
    y, x = grid(*rgb.shape[:2])
    across, down = rng.uniform(0, 0.16, 2)
    bend = rng.uniform(0.4, 1.0) if rng.random() < 0.7 else 0.0
    outside = np.abs(x) > 1 - 2 * across * (1 - bend * y**2)
    outside = outside | (np.abs(y) > 1 - 2 * down * (1 - bend * x**2))
    framed = rgb.copy()
    framed[outside] = 255 if rng.random() < 0.5 else 0
    return framed


EFFECTS = (vignette, motion_blur, low_resolution, exposure, cast, jpeg, borders)
