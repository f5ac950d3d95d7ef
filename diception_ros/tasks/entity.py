# SPDX-License-Identifier: Apache-2.0
"""Entities: every instance one random colour on black; decoding needs no palette."""

from __future__ import annotations

import numpy as np

from diception_ros.tasks.colours import Palette, random_colours
from diception_ros.tasks.segments import find_segments
from diception_ros.tasks.types import Float, Instances, Task


def encode(target: Instances, rng: np.random.Generator) -> Float:
    """Ids -> colours drawn anew each time, each far from those already drawn."""
    count = int(target.ids.max(initial=0))
    return random_colours(count, rng)[target.ids]


def decode(colours: Float, **options: float) -> Instances:
    """Colours -> instances; options are the fields of segments.Palette."""
    return find_segments(colours, Palette(**options))


TASK = Task("entity", "[[image2entity]]", encode, decode, Instances)
