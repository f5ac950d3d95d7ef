# SPDX-License-Identifier: Apache-2.0
"""One category's instances; their union is the class mask.

The paper paints them in random colours on black, the released loader white on black. Both are read:
an image without colour is cut at a brightness and its connected parts are the instances.
"""

from __future__ import annotations

import numpy as np

from diception_ros.tasks.colours import Palette, is_colourless, random_colours
from diception_ros.tasks.depth import mean_channel
from diception_ros.tasks.segments import find_segments, find_silhouettes
from diception_ros.tasks.types import Float, Instances, Task

THRESHOLD = 0.4
"""Brightness of a silhouette. Below the middle: where a small network is unsure, one step answers
the mean of what may be there. Its mean IoU on training scenes: .466 at 0.5, .501 at 0.4."""


def encode(target: Instances, rng: np.random.Generator | None = None) -> Float:
    """Ids -> random colours, or white for all without an rng (as the released loader shows)."""
    if rng is None:
        return np.repeat((target.ids > 0)[..., None].astype(np.float32), 3, axis=-1)
    return random_colours(int(target.ids.max(initial=0)), rng)[target.ids]


def decode(colours: Float, threshold: float = THRESHOLD, **options: float) -> Instances:
    """Colours -> instances. threshold: brightness in 0..1 for silhouettes; options: the fields of
    colours.Palette, for instances in colours. ValueError for a threshold outside 0..1."""
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must lie between 0 and 1, found {threshold:g}")
    palette = Palette(**options)
    if is_colourless(colours):
        return find_silhouettes(mean_channel(colours), threshold, palette.smallest)
    return find_segments(colours, palette)


TASK = Task("semantic", "[[image2semantic]]", encode, decode, Instances, takes_category=True)
