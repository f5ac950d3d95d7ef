# SPDX-License-Identifier: Apache-2.0
"""Which segments are one instance: parts of a colour that drifts, parts seen behind another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from diception_ros.tasks.boxes import Box, around, extent, find_boxes
from diception_ros.tasks.colours import Labels, Pixels, squared_norm
from diception_ros.tasks.types import Float

ACROSS = 6
"""Pixels at the working size between the two sides of a border: more than a soft edge is wide."""
SOFT = 0.7
"""Change across a border, over the radius of one colour, under which there is no edge."""
FADE = 1.7
"""The same for a change towards black alone."""

Sums = npt.NDArray[np.float64]


def join_soft(
    segments: Labels, nobody: npt.NDArray[np.bool_], smooth: Pixels, radius: float
) -> Labels:
    """Joins touching segments without an edge between them: one instance whose colour drifts (by
    less than SOFT across the border) or fades (by less than FADE, its hue kept), cut where it
    passed from one centre to the next. A segment that drifts into the background (`nobody`) is a
    part of it."""
    marks = np.where((segments == 0) & ~nobody, -1, segments)
    low, high, change, middle = across_borders(marks, smooth)
    count = int(segments.max(initial=0)) + 1
    keys, inverse, lengths = np.unique(low * count + high, return_inverse=True, return_counts=True)
    mean = np.maximum(lengths, 1)[:, None]
    change, middle = (
        np.stack([np.bincount(inverse, part[:, c], len(keys)) for c in range(3)], axis=1) / mean
        for part in (change, middle)
    )
    contrast = np.sqrt(squared_norm(change))
    towards_black = (change * middle).sum(axis=1) / np.maximum(np.sqrt(squared_norm(middle)), 1)
    of_hue = np.sqrt(np.maximum(contrast**2 - towards_black**2, 0))
    fades = (of_hue < SOFT * radius) & (contrast < FADE * radius) & (keys >= count)
    alike = keys[(contrast < SOFT * radius) | fades]
    graph = coo_array((np.ones(len(alike)), (alike // count, alike % count)), (count, count))
    _, groups = connected_components(graph, directed=False)
    table = np.where(groups == groups[0], 0, groups + 1).astype(np.int32)
    joined: Labels = table[segments]
    return joined


def across_borders(marks: Labels, smooth: Pixels) -> tuple[Labels, Labels, Float, Float]:
    """Pairs of pixels ACROSS apart with different marks: the smaller mark (N,), the larger mark,
    the colour of the larger less that of the smaller (N, 3), and the mean colour of both (N, 3).
    Marks below 0 take no part."""
    lows, highs, changes, middles = [], [], [], []
    for forward, backward in (
        (np.s_[:, ACROSS:], np.s_[:, :-ACROSS]),
        (np.s_[ACROSS:, :], np.s_[:-ACROSS, :]),
    ):
        a, b = marks[forward], marks[backward]
        at = np.nonzero((a != b) & (a >= 0) & (b >= 0))
        a, b = a[at], b[at]
        one, other = smooth[forward][at].astype(np.float32), smooth[backward][at]
        lows.append(np.minimum(a, b))
        highs.append(np.maximum(a, b))
        changes.append(np.where((a > b)[:, None], one - other, other - one))
        middles.append((one + other) / 2)
    return (
        np.concatenate(lows),
        np.concatenate(highs),
        np.concatenate(changes),
        np.concatenate(middles),
    )


def join_parts(segments: Labels, sums: Sums, radius: float, limit: float) -> Labels:
    """Table (N + 1,) that gives segments of one colour (within `radius`) one number where their
    joint box is at most `limit` times the sum of their boxes: one thing seen in parts behind
    another. A limit of 0 joins nothing."""
    table = np.arange(len(sums), dtype=np.int32)
    if limit == 0:
        return table
    boxes = find_boxes(segments)
    colours = sums[:, :3] / np.maximum(sums[:, 3:], 1)
    groups: list[tuple[int, Box, int]] = []  # number, joint box, sum of the boxes
    for number in sorted(boxes, key=lambda n: -sums[n, 3]):
        box = boxes[number]
        firsts = [first for first, _, _ in groups]
        alike = squared_norm(colours[firsts] - colours[number]) <= radius**2
        for row in np.flatnonzero(alike).tolist():
            first, other, total = groups[row]
            together = around(box, other)
            if extent(together) <= limit * (total + extent(box)):
                table[number] = first
                groups[row] = (first, together, total + extent(box))
                break
        else:
            groups.append((number, box, extent(box)))
    return table


def colour_sums(segments: Labels, smooth: Pixels) -> Sums:
    """Sums of red, green, blue, and the number of pixels, of every segment from 0 (N + 1, 4)."""
    flat = segments.ravel()
    sums = [np.bincount(flat, smooth[..., c].ravel()) for c in range(3)]
    return np.stack([*sums, np.bincount(flat)], axis=1)


def regroup(sums: Sums, table: Labels) -> Sums:
    """The sums of segments that `table` gave one number."""
    joined = np.zeros_like(sums)
    np.add.at(joined, table, sums)
    return joined
