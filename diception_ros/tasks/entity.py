# SPDX-License-Identifier: Apache-2.0
"""Entities: every instance one random colour on black; decoding needs no palette."""

from __future__ import annotations

import numpy as np

from diception_ros.tasks.segments import Palette, find_segments
from diception_ros.tasks.types import Float, Instances, Task

DARKEST = 0.35
"""The brightest channel of an instance's colour is at least this: black is the background."""


def encode(target: Instances, rng: np.random.Generator) -> Float:
    """Ids -> colours drawn anew each time, each far from those already drawn."""
    count = int(target.ids.max(initial=0))
    return random_colours(count, rng)[target.ids]


def random_colours(count: int, rng: np.random.Generator) -> Float:
    """(count + 1, 3) float32; row 0 is black. Each is the farthest of 12 draws from the others."""
    colours = np.zeros((count + 1, 3), np.float32)
    for row in range(1, count + 1):
        draws = rng.uniform(0, 1, (12, 3)).astype(np.float32)
        draws *= np.maximum(1, DARKEST / draws.max(axis=1, keepdims=True))
        gaps = np.linalg.norm(draws[:, None] - colours[None, :row], axis=-1).min(axis=1)
        colours[row] = draws[gaps.argmax()]
    return np.clip(colours, 0, 1)


def decode(colours: Float, **options: float) -> Instances:
    """Colours -> instances; options are the fields of segments.Palette."""
    return find_segments(colours, Palette(**options))


TASK = Task("entity", "[[image2entity]]", encode, decode, Instances)
