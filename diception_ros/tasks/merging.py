# SPDX-License-Identifier: Apache-2.0
"""Regions of a picture joined into the instances that explain it best.

What is explained: colours as one each per instance, which may be due to its place and size, and
borders, which are cheap where the image has an edge. That is the piecewise constant functional of
Mumford and Shah (1989), made smaller by joining two regions at a time, the best first (Koepfler,
Lopez and Morel 1994).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.tasks.colours import Floats, Labels, placed_colours
from diception_ros.tasks.types import Float

BORDER = 0.4
"""Cost of a pixel of border without an edge; that of a pixel's colour is its squared distance from
its instance's mean, in 0..1 of every channel."""
EDGE = 0.12
"""Change of the image, summed over the channels, that leaves 1/e of that cost."""
BLUR = 0.5
"""Standard deviation, in pixels, of the blur before the image's change is taken."""
DARK = 0.1
"""Brightest channel of a region's mean under which it is background."""

Rows = npt.NDArray[np.intp]
NEVER = -np.inf
WAYS: tuple[tuple[Any, Any], ...] = (
    (np.s_[:, 1:], np.s_[:, :-1]),
    (np.s_[1:], np.s_[:-1]),
)
"""Pixels and their neighbours, to the left and above."""


class Segments:
    """Regions that are being joined. sums (N, 7): their moments. borders (N, N): cost of the
    border between two; ground (N,): with the background. placed, pixels: see unexplained. gains
    (N, N): what all costs less when two are one, in the row of the one that changed last."""

    def __init__(
        self, sums: Floats, borders: Floats, ground: Floats, placed: float, pixels: int
    ) -> None:
        self.sums, self.borders, self.ground, self.count = sums, borders, ground, len(sums)
        self._cost = partial(unexplained, placed=placed, pixels=pixels)
        self.costs = self._cost(sums)
        self.owner = np.arange(self.count)
        self.gains = np.full(borders.shape, NEVER)
        pairs = np.nonzero(np.triu(borders))
        self.gains[pairs] = self._gained(*pairs)
        self.best, self.partner = self.gains.max(axis=1), self.gains.argmax(axis=1)

    def join_best(self) -> bool:
        """The two that gain most become one, unless that gains nothing; whether they did."""
        first = int(self.best.argmax())
        if self.best[first] <= 0:
            return False
        self._join(first, int(self.partner[first]))
        return True

    def _join(self, first: int, second: int) -> None:
        self.owner[second] = first
        # What they cost as one, from what that gains: half of all computing of costs.
        self.costs[first] += self.costs[second] + self.borders[first, second]
        self.costs[first] -= self.gains[first, second]
        self.sums[first] += self.sums[second]
        self.ground[first] += self.ground[second]
        self.borders[first] += self.borders[second]
        self.borders[first, first] = 0
        self.borders[:, first] = self.borders[first]
        self.borders[:, second] = 0
        self.gains[first] = self.gains[second] = NEVER
        self.gains[:, first] = self.gains[:, second] = NEVER
        beside = np.flatnonzero(self.borders[first])
        self.gains[first, beside] = self._gained(first, beside)
        stale = ((self.partner == first) | (self.partner == second)) & (self.best > NEVER)
        stale[[first, second]] = True
        self.best[stale] = self.gains[stale].max(axis=1)
        self.partner[stale] = self.gains[stale].argmax(axis=1)

    def _gained(self, first: int | Rows, beside: Rows) -> Floats:
        together = self._cost(self.sums[first] + self.sums[beside])
        return np.asarray(
            self.costs[first] + self.costs[beside] - together + self.borders[first, beside]
        )

    def numbered(self) -> Rows:
        """Every region's instance (N,) from 1, the largest first; 0 for background. Black is dearer
        than a colour of one's own, but spares the border with the background."""
        shown = (self.owner == np.arange(self.count)) & ~dark(self.sums)
        shown &= self.sums[:, 4] >= self.costs + self.ground
        numbers = np.zeros(self.count, np.intp)
        by_size = np.argsort(-self.sums[shown, 0], kind="stable")
        numbers[np.flatnonzero(shown)[by_size]] = np.arange(1, len(by_size) + 1)
        owner = self.owner
        while (owner[owner] != owner).any():
            owner = owner[owner]
        return numbers[owner]


def dark(sums: Floats) -> npt.NDArray[np.bool_]:
    """Which of sums (N, 5 or more) are of background."""
    found: npt.NDArray[np.bool_] = sums[:, 1:4].max(axis=1) < DARK * sums[:, 0]
    return found


def spread(sums: Floats) -> Floats:
    """Of sums (N, 5 or more) or of one: the sum of squared distances of the colours from their
    mean."""
    count, red, green, blue, squares = sums.T[:5]
    found: Floats = squares - (red * red + green * green + blue * blue) / count
    return found


def unexplained(sums: Floats, placed: float, pixels: int) -> Floats:
    """Of moments (N, 7) or (7,): their spread and, with the weight `placed`, the squared distances
    of their means from the colours that instances there and of that size have in so many pixels."""
    found = spread(sums)
    if placed:
        count, *shown, _, columns, rows = sums.T
        due = placed_colours(columns / count, rows / count, count / pixels)
        for total, colour in zip(shown, due, strict=True):
            off = total - count * colour
            found += placed * off * off / count
    return found


def join_regions(regions: Labels, colours: Float, image: Float, placed: float = 0.0) -> Labels:
    """Regions (h, w), numbered from 0, of colours and image (h, w, 3) in [0, 1] -> instances (h, w)
    from 1, the largest first, and 0 where nobody is. placed: see unexplained; 0 for colours that
    say nothing of the place. Time grows with the square of the regions' number."""
    sums, borders = moments(regions, colours), border_costs(regions, image)
    numbers, nobody = np.zeros(len(sums), np.int32), dark(sums)
    if not nobody.all():
        some, ground = np.flatnonzero(~nobody), borders[:, nobody].sum(axis=1)
        among = borders[np.ix_(some, some)]
        segments = Segments(sums[some], among, ground[some], placed, regions.size)
        while segments.join_best():
            pass
        numbers[some] = segments.numbered()
    return numbers[regions]


def moments(labels: Labels, colours: Float) -> Floats:
    """Of every label (N, 7): its colour_moments, columns and rows, these in 0..1 of the picture."""
    height, width = labels.shape
    rows, columns = np.divmod(np.arange(labels.size), width)
    places = [np.bincount(labels.ravel(), at) for at in (columns / width, rows / height)]
    return np.column_stack([colour_moments(labels, colours), *places])


def colour_moments(labels: Labels, colours: Float) -> Floats:
    """Of every label (N, 5): pixels, red, green, blue, and all channels squared."""
    flat, values = labels.ravel(), colours.reshape(-1, 3).astype(np.float64)
    columns = [np.ones(len(flat)), *values.T, np.square(values).sum(axis=1)]
    return np.stack([np.bincount(flat, column) for column in columns], axis=-1)


def border_costs(regions: Labels, image: Float) -> Floats:
    """Cost of the border between every two regions (N, N), 0 where there is none."""
    smooth = np.asarray(cv2.GaussianBlur(image, (0, 0), BLUR), np.float32)
    changes = [np.abs(smooth[one] - smooth[other]).sum(axis=-1) for one, other in WAYS]
    return border_sums(regions, [BORDER * np.exp(-change / EDGE) for change in changes])


def border_sums(labels: Labels, weights: Sequence[Float | None] = (None, None)) -> Floats:
    """Pixels on the border between every two labels (N, N), symmetric; with weights, for each of
    WAYS, their sum."""
    count = int(labels.max()) + 1
    found = np.zeros(count * count)
    for (forward, backward), weight in zip(WAYS, weights, strict=True):
        one, other = labels[forward], labels[backward]
        at = one != other
        each = None if weight is None else weight[at]
        found += np.bincount(one[at] * count + other[at], each, count * count)
    table: Floats = found.reshape(count, count)
    return np.asarray(table + table.T)
