# SPDX-License-Identifier: Apache-2.0
"""Depth: inverse depth per image from 0 to 1, near = 1, the same on three channels."""

from __future__ import annotations

import numpy as np

from diception_ros.tasks.types import Disparity, Float, Task


def disparity_from_depth(depth: Float) -> Disparity:
    """Metres (H, W), not positive or not finite = unknown -> 1/depth, min-max to 0..1.
    Unknown pixels count as infinitely far: 0. ValueError if nothing is known."""
    inverse = _inverse(depth)
    low, high = float(inverse.min()), float(inverse.max())
    scaled = (inverse - low) / max(high - low, 1e-12)
    return Disparity(np.clip(scaled, 0, 1).astype(np.float32))


def farthest_disparity(depth: Float) -> float:
    """What disparity_from_depth takes away: the least 1 / depth as a share of their range.
    ValueError as there."""
    inverse = _inverse(depth)
    low, high = float(inverse.min()), float(inverse.max())
    return low / max(high - low, 1e-6)


def _inverse(depth: Float) -> Float:
    known = np.isfinite(depth) & (depth > 0)
    if not known.any():
        raise ValueError("depth: no pixel is finite and positive, there is nothing to normalise")
    inverse = np.zeros(depth.shape, np.float32)
    np.divide(1.0, depth, out=inverse, where=known)
    return inverse


def encode(target: Disparity, rng: np.random.Generator | None = None) -> Float:
    """Disparity -> colours (H, W, 3); nothing is random here."""
    return np.repeat(target.values[..., None].astype(np.float32), 3, axis=-1)


def decode(colours: Float) -> Disparity:
    """Colours -> the mean of the channels."""
    return Disparity(mean_channel(colours))


def mean_channel(colours: Float) -> Float:
    """Mean of the channels (H, W), clipped to 0..1. Not `mean(axis=-1)`: numpy takes ten times as
    long over an axis of three."""
    total = colours[..., 0] + colours[..., 1] + colours[..., 2]
    return np.clip(total / 3, 0, 1).astype(np.float32)


TASK = Task("depth", "[[image2depth]]", encode, decode, Disparity)
