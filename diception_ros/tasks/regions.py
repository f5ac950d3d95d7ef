# SPDX-License-Identifier: Apache-2.0
"""Instances of an image and of coarse colours together: what a small network paints has no flat
colours to be found again, but says which of the image's regions belong together."""

from __future__ import annotations

import warnings

import numpy as np
from skimage.segmentation import felzenszwalb

from diception_ros.tasks.colours import Floats, Labels
from diception_ros.tasks.edges import Guide, shrunk
from diception_ros.tasks.measure import Ids, describe, sharpen
from diception_ros.tasks.merging import (
    border_sums,
    colour_moments,
    join_regions,
    spread,
)
from diception_ros.tasks.types import Float, Instances

# It takes any number of channels, and says so at more than three.
warnings.filterwarnings("ignore", "Got image with third dimension of 6", RuntimeWarning)
SMOOTH = 0.5
"""Standard deviation, in pixels, of the blur before regions are cut."""
SMALLEST = 6
"""Pixels of a region."""
MOST = 800
"""Regions from which on they are cut again, larger: joining so many would take long."""
COLOUR = 0.6
"""What the picture's colours count beside the image's when regions are cut."""
EDGES = 4
"""Radius of the guide's filter at the borders of instances."""
SPREAD = np.array([0.7548776662466927, 0.5698402909980532])
"""Steps of the R2 sequence (Roberts 2018), which fills the square evenly."""
TINY = 1e-12


def find_instances(colours: Float, guide: Guide, scale: float, placed: float = 0.0) -> Instances:
    """Colours (H, W, 3) in [0, 1] for the guide's image -> instances, the largest first. scale: of
    the regions that they are joined from, larger for larger ones. placed: what it counts in
    joining them that a colour is due to place and size. score: `contrast`."""
    small = np.asarray(shrunk(colours), np.float32)
    instances = join_regions(cut(small, guide.small, scale), small, guide.small, placed)
    ids = enlarged(instances, guide)
    return Instances(ids, describe(ids, instances, contrast(instances, small)))


def cut(colours: Float, image: Float, scale: float) -> Labels:
    """Regions (h, w), numbered from 0, about MOST at most (Felzenszwalb and Huttenlocher 2004)."""
    both = np.concatenate([image, COLOUR * colours], axis=-1).astype(np.float64)
    found = felzenszwalb(both, scale, SMOOTH, SMALLEST, channel_axis=-1)  # type: ignore[no-untyped-call]
    if found.max() >= MOST:  # noise; joining would take long
        least = found.size // MOST
        found = felzenszwalb(both, scale, SMOOTH, least, channel_axis=-1)  # type: ignore[no-untyped-call]
    return np.asarray(found, np.int32)


def contrast(instances: Labels, colours: Float) -> Floats:
    """(N + 1,) in 0..1: of the colours' variance in every instance and between its mean and that of
    its surroundings, the share of the latter. What is between two others and has their mixture's
    colour, as a soft border has, gets little."""
    sums = colour_moments(instances, colours)
    counts = sums[:, 0] = np.maximum(sums[:, 0], 1)
    means = sums[:, 1:4] / counts[:, None]
    lengths = border_sums(instances)
    around = lengths @ means / np.maximum(lengths.sum(axis=1, keepdims=True), 1)
    between = np.square(means - around).sum(axis=1)
    within = np.maximum(spread(sums) / counts, 0)
    found: Floats = between / np.maximum(between + within, TINY)
    return found


def enlarged(instances: Labels, guide: Guide) -> Ids:
    """Ids of the guide's size: borders lie where the guide's filter brings them, as those of masks,
    of codes that tell neighbours apart."""
    count = int(instances.max(initial=0))
    codes = np.float32(np.arange(count + 1)[:, None] * SPREAD % 1)
    planes = [guide.filtered(code[instances], EDGES) for code in codes.T]
    return sharpen(instances, codes, np.stack(planes, axis=-1))
