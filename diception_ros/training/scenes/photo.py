# SPDX-License-Identifier: Apache-2.0
"""What a real camera does to a picture: exposure, colour cast, blur, vignette, noise, JPEG."""

from __future__ import annotations

import cv2
import numpy as np


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
