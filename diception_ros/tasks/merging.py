# SPDX-License-Identifier: Apache-2.0
"""Regions of a picture joined into the instances that explain it best.

What is explained: colours as one each per instance, and borders, which are cheap where the image
has an edge. That is the piecewise constant functional of Mumford and Shah (1989), made smaller by
joining two regions at a time, the best first (Koepfler, Lopez and Morel 1994).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.tasks.types import Float

BORDER = 0.45
"""Cost of a pixel of border without an edge; that of a pixel's colour is its squared distance from
its instance's mean, in 0..1 of every channel."""
EDGE = 0.12
"""Change of the image, summed over the channels, that leaves 1/e of that cost."""
BLUR = 0.5
"""Standard deviation, in pixels, of the blur before the image's change is taken."""
DARK = 0.1
"""Brightest channel of a region's mean under which it is background."""

Labels = npt.NDArray[np.intp]
Sums = tuple[float, float, float, float, float]


@dataclass
class Segment:
    """sums: pixels, red, green, blue, and all channels squared. borders: cost of the borders with
    other segments, by number. ground: with the background."""

    sums: Sums
    borders: dict[int, float] = field(default_factory=dict)
    ground: float = 0.0

    @property
    def cost(self) -> float:
        """Of its colours: the sum of squared distances from the mean."""
        count, red, green, blue, squares = self.sums
        return squares - (red * red + green * green + blue * blue) / count

    @property
    def dark(self) -> bool:
        return max(self.sums[1:4]) < DARK * self.sums[0]

    def with_(self, other: Segment) -> Segment:
        """Both as one, with the borders of both to others."""
        one, two = self.sums, other.sums
        sums = one[0] + two[0], one[1] + two[1], one[2] + two[2], one[3] + two[3], one[4] + two[4]
        borders = dict(self.borders)
        for number, cost in other.borders.items():
            borders[number] = borders.get(number, 0.0) + cost
        return Segment(sums, borders, self.ground + other.ground)


def join_regions(regions: Labels, colours: Float, image: Float) -> Labels:
    """Regions (h, w), numbered from 0, of colours and image (h, w, 3) in [0, 1] -> instances (h, w)
    from 1, and 0 where nobody is."""
    segments = measured(regions, colours, image)
    parents = list(range(len(segments)))
    queue = [
        (-gain, first, second)
        for first, segment in enumerate(segments)
        for second in segment.borders
        if first < second and (gain := gained(segments, first, second)) > 0
    ]
    heapify(queue)
    while queue:
        _, *pair = heappop(queue)
        if any(parents[number] != number for number in pair):
            continue
        new = join(segments, *pair)
        parents[pair[0]] = parents[pair[1]] = new
        parents.append(new)
        for other in segments[new].borders:
            if (gain := gained(segments, other, new)) > 0:
                heappush(queue, (-gain, other, new))
    return numbered(segments, parents)[regions]


def gained(segments: list[Segment], first: int, second: int) -> float:
    """What all costs less when two neighbours are one."""
    one, two = segments[first], segments[second]
    count, red, green, blue, _ = (a + b for a, b in zip(one.sums, two.sums, strict=True))
    squares = one.sums[4] + two.sums[4]
    together = squares - (red * red + green * green + blue * blue) / count
    return one.cost + two.cost - together + one.borders[second]


def join(segments: list[Segment], first: int, second: int) -> int:
    """Appends both as one, which takes their place beside their neighbours; returns its number."""
    new, made = len(segments), segments[first].with_(segments[second])
    del made.borders[first], made.borders[second]
    segments.append(made)
    for number, cost in made.borders.items():
        borders = segments[number].borders
        borders.pop(first, None)
        borders.pop(second, None)
        borders[new] = cost
    return new


def numbered(segments: list[Segment], parents: list[int]) -> Labels:
    """Every segment's instance. Black is dearer than a colour of one's own, but spares the border
    with the background."""
    found = np.zeros(len(segments), np.intp)
    count = 0
    for number in reversed(range(len(segments))):
        segment = segments[number]
        if parents[number] != number:  # its parent comes later, and so has been here
            found[number] = found[parents[number]]
        elif not segment.dark and segment.sums[4] >= segment.cost + segment.ground:
            count += 1
            found[number] = count
    return found


def measured(regions: Labels, colours: Float, image: Float) -> list[Segment]:
    """Every region; dark ones have no neighbours."""
    flat, values = regions.ravel(), colours.reshape(-1, 3).astype(np.float64)
    columns = [np.ones(len(flat)), *values.T, np.square(values).sum(axis=1)]
    sums = np.stack([np.bincount(flat, column) for column in columns], axis=-1)
    segments = [Segment(tuple(row)) for row in sums.tolist()]
    dark = [segment.dark for segment in segments]
    for first, second, cost in borders_between(regions, image, len(segments)):
        for one, other in ((first, second), (second, first)):
            if dark[other]:
                segments[one].ground += cost
            elif not dark[one]:
                segments[one].borders[other] = cost
    return segments


def borders_between(regions: Labels, image: Float, count: int) -> list[tuple[int, int, float]]:
    """Neighbours, the smaller number first, and the cost of their common border."""
    smooth = np.asarray(cv2.GaussianBlur(image, (0, 0), BLUR), np.float32)
    keys, costs = [], []
    ways: tuple[tuple[Any, Any], ...] = (
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[1:], np.s_[:-1]),
    )
    for forward, backward in ways:
        one, other = regions[forward], regions[backward]
        at = one != other
        keys.append(np.minimum(one, other)[at] * count + np.maximum(one, other)[at])
        change = np.abs(smooth[forward][at] - smooth[backward][at]).sum(axis=-1)
        costs.append(BORDER * np.exp(-change / EDGE))
    pairs, places = np.unique(np.concatenate(keys), return_inverse=True)
    totals = np.bincount(places, np.concatenate(costs), len(pairs))
    return [
        (*divmod(key, count), cost)
        for key, cost in zip(pairs.tolist(), totals.tolist(), strict=True)
    ]
