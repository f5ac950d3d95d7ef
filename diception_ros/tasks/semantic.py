# SPDX-License-Identifier: Apache-2.0
"""One category's instances, in random colours or white on black; their union is the class mask."""

from __future__ import annotations

import numpy as np

from diception_ros.tasks.entity import random_colours
from diception_ros.tasks.segments import Palette, find_segments
from diception_ros.tasks.types import Float, Instances, Task

APART = 0.0
"""Equal colours stay apart here: white on black gives every instance the same one."""


def encode(target: Instances, rng: np.random.Generator | None = None) -> Float:
    """Ids -> random colours, or white for all without an rng (as the released loader shows)."""
    if rng is None:
        return np.repeat((target.ids > 0)[..., None].astype(np.float32), 3, axis=-1)
    return random_colours(int(target.ids.max(initial=0)), rng)[target.ids]


def decode(colours: Float, **options: float) -> Instances:
    """Colours -> instances; options are the fields of segments.Palette."""
    return find_segments(colours, Palette(**{"merge": APART, **options}))


TASK = Task("semantic", "[[image2semantic]]", encode, decode, Instances, takes_category=True)
