# SPDX-License-Identifier: Apache-2.0
"""Point-prompted segmentation: a white mask on black with soft edges."""

from __future__ import annotations

import numpy as np

from diception_ros.tasks.depth import mean_channel
from diception_ros.tasks.types import Float, Mask, Task

THRESHOLD = 0.5
"""The authors publish none; the middle of black and white."""


def encode(target: Mask, rng: np.random.Generator | None = None) -> Float:
    """Mask -> white on black."""
    return np.repeat(target.mask[..., None].astype(np.float32), 3, axis=-1)


def decode(colours: Float, threshold: float = THRESHOLD) -> Mask:
    """Colours -> brightness as the score, and the mask where it is at least `threshold`.
    ValueError for a threshold outside 0..1."""
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie within 0 and 1, found {threshold:g}")
    score = mean_channel(colours)
    return Mask(score >= threshold, score)


TASK = Task("point", "[[image2segmentation]]", encode, decode, Mask, takes_points=True)
