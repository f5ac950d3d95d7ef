# SPDX-License-Identifier: Apache-2.0
"""Instances from flat colours of an unknown palette, as an imperfect decoder paints them.

Constants are those of Vision Banana (arXiv 2604.20329, appendix A) where it publishes one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import label as connected

from diception_ros.tasks.types import Float, Instance, Instances

WORKING_SIDE = 320
"""Longest side that colours are clustered at: averaging on the way removes noise, too."""
BITS = 5
LEVELS, WIDTH = 1 << BITS, 1 << (8 - BITS)

Labels = npt.NDArray[np.int32]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Palette:
    """How colours are told apart; distances are Euclidean in RGB of 0..255.

    background: within this of black is nobody. tolerance: least radius of one colour; it grows with
    the noise that is measured. smallest: share of the image below which a segment is dropped.
    solid: share of a segment that a 3x3 erosion must leave (halos are thin). merge: segments of one
    colour are one instance if their joint box is at most this many times their boxes; 0 never.
    """

    background: float = 36.0
    tolerance: float = 18.0
    smallest: float = 2e-4
    solid: float = 0.1
    merge: float = 5.0


def find_segments(colours: Float, palette: Palette) -> Instances:
    """Colours (H, W, 3) in [0, 1] -> instances, the largest first."""
    height, width = colours.shape[:2]
    pixels = (np.clip(colours, 0, 1) * 255 + 0.5).astype(np.uint8)
    small = shrink(pixels)
    smooth = np.asarray(cv2.medianBlur(small, 5), np.uint8)
    radius = max(palette.tolerance, 4.0 * noise_level(small, smooth))
    centres = find_colours(smooth, palette, radius)
    kinds = nearest_colour(smooth, centres, palette.background)
    segments = connected(kinds, background=0, connectivity=2).astype(np.int32)
    segments = keep_solid(segments, palette)
    segments = join(segments, kinds, palette.merge) if palette.merge > 0 else segments
    segments = grow(segments, kinds > 0)
    ids = cv2.resize(segments.astype(np.uint16), (width, height), interpolation=cv2.INTER_NEAREST)
    return describe(ids, segments, smooth, centres[kinds])


def shrink(pixels: Pixels) -> Pixels:
    """At most WORKING_SIDE on the longest side, by area averaging."""
    scale = WORKING_SIDE / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def noise_level(pixels: Pixels, smooth: Pixels) -> float:
    """Robust standard deviation of what the median filter took away from coloured pixels."""
    coloured = smooth.max(axis=-1) > 60
    if not coloured.any():
        return 0.0
    difference = cv2.absdiff(pixels, smooth)[coloured]
    return 1.4826 * float(np.median(difference)) / 2.5  # the filter's own noise is the fraction


def find_colours(smooth: Pixels, palette: Palette, radius: float) -> Float:
    """Modes of the colour histogram (K + 1, 3), row 0 black. Only flat pixels vote: edges between
    two colours hold every colour in between."""
    lightest = cv2.dilate(smooth, np.ones((3, 3), np.uint8))
    darkest = cv2.erode(smooth, np.ones((3, 3), np.uint8))
    flat = (lightest - darkest).max(axis=-1) <= radius
    votes = smooth[flat].astype(np.float32)
    votes = votes[(votes**2).sum(axis=1) > palette.background**2]
    if not len(votes):
        return np.zeros((1, 3), np.float32)
    colours, counts = histogram(votes)
    needed = max(2.0, 0.25 * palette.smallest * flat.size)
    centres = [np.zeros(3, np.float32)]
    left = counts.copy()
    while left.max() >= 1 and len(centres) < 256:
        near = ((colours - colours[left.argmax()]) ** 2).sum(axis=1) <= radius**2
        centre = (colours[near] * left[near, None]).sum(axis=0) / left[near].sum()
        near |= ((colours - centre) ** 2).sum(axis=1) <= radius**2
        if left[near].sum() >= needed:
            centres.append(centre)
        left[near] = 0
    return np.stack(centres)


def histogram(votes: Float) -> tuple[Float, Float]:
    """Occupied cells of a 32^3 histogram: their mean colours (K, 3) and counts (K,)."""
    cells = cell_of(votes.astype(np.uint8))
    counts = np.bincount(cells, minlength=LEVELS**3)
    used = np.flatnonzero(counts)
    sums = [np.bincount(cells, votes[:, c], LEVELS**3)[used] for c in range(3)]
    means = np.stack(sums, axis=1) / counts[used, None]
    return means.astype(np.float32), counts[used].astype(np.float32)


def cell_of(pixels: Pixels) -> npt.NDArray[np.intp]:
    """Index of the histogram cell of colours (..., 3)."""
    r, g, b = (pixels[..., c].astype(np.intp) >> (8 - BITS) for c in range(3))
    cells: npt.NDArray[np.intp] = (r << 2 * BITS) | (g << BITS) | b
    return cells


def nearest_colour(smooth: Pixels, centres: Float, background: float) -> Labels:
    """Row of the nearest centre for every pixel (h, w), by a table over histogram cells; 0 for
    what lies within `background` of black or nearest to it."""
    cells = cell_of(smooth)
    used = np.unique(cells)
    levels = np.stack([used >> 2 * BITS, (used >> BITS) % LEVELS, used % LEVELS], axis=1)
    colours = levels * WIDTH + (WIDTH - 1) / 2
    distances = ((colours[:, None] - centres[None]) ** 2).sum(axis=-1)
    table = np.zeros(LEVELS**3, np.int32)
    table[used] = distances.argmin(axis=1)
    kinds = table[cells]
    kinds[(smooth.astype(np.int32) ** 2).sum(axis=-1) <= background**2] = 0
    return kinds


def keep_solid(segments: Labels, palette: Palette) -> Labels:
    """Drops small and thin segments and numbers the others from 1."""
    areas = np.bincount(segments.ravel())
    as_float = segments.astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    inner = cv2.erode(as_float, kernel) == cv2.dilate(as_float, kernel)
    solid = np.bincount(segments[inner], minlength=len(areas)) / np.maximum(areas, 1)
    keep = (areas >= max(3, palette.smallest * segments.size)) & (solid >= palette.solid)
    keep[0] = False
    table = np.zeros(len(areas), np.int32)
    table[keep] = np.arange(1, keep.sum() + 1)
    return table[segments]


def join(segments: Labels, kinds: Labels, limit: float) -> Labels:
    """Gives segments of one colour one number where their joint box is at most `limit` times the
    sum of their boxes: one thing seen in parts behind another."""
    boxes = ndimage.find_objects(segments)
    owner = {i + 1: int(kinds[box][segments[box] == i + 1][0]) for i, box in enumerate(boxes)}
    groups: list[tuple[int, tuple[int, int, int, int], float]] = []
    table = np.arange(len(boxes) + 1, dtype=np.int32)
    areas = np.bincount(segments.ravel(), minlength=len(table))
    for number in sorted(owner, key=lambda n: -areas[n]):
        rows, columns = boxes[number - 1]
        box = (rows.start, columns.start, rows.stop, columns.stop)
        for row, (first, other, total) in enumerate(groups):
            joint = (*map(min, box[:2], other[:2]), *map(max, box[2:], other[2:]))
            together = total + box_area(box)
            if owner[first] == owner[number] and box_area(joint) <= limit * together:
                table[number] = first
                groups[row] = (first, joint, together)  # type: ignore[assignment]
                break
        else:
            groups.append((number, box, box_area(box)))
    return table[segments]


def box_area(box: tuple[int, ...]) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def grow(segments: Labels, coloured: npt.NDArray[np.bool_]) -> Labels:
    """Gives coloured pixels of dropped halos to a neighbour, up to three pixels away."""
    current = segments.astype(np.float32)
    for _ in range(3):
        free = coloured & (current == 0)
        if not free.any():
            break
        current = np.where(free, cv2.dilate(current, np.ones((3, 3), np.uint8)), current)
    return current.astype(np.int32)


def describe(ids: npt.NDArray[np.uint16], small: Labels, smooth: Pixels, ideal: Float) -> Instances:
    """Numbers instances by area, the largest first, and measures them at full size. The score is
    how close a segment's pixels lie to one colour."""
    areas = np.bincount(ids.ravel())
    order = [int(n) for n in np.argsort(-areas, kind="stable") if n and areas[n]]
    table = np.zeros(len(areas), np.uint16)
    table[order] = np.arange(1, len(order) + 1)
    away = np.linalg.norm(smooth - ideal, axis=-1)
    spread = np.bincount(small.ravel(), away.ravel(), len(areas))
    counts = np.bincount(small.ravel(), minlength=len(areas))
    ids = table[ids]
    boxes = ndimage.find_objects(ids.astype(np.int32))
    instances = [
        measure(ids, i + 1, boxes[i], int(areas[old]), float(spread[old] / max(counts[old], 1)))
        for i, old in enumerate(order)
    ]
    return Instances(ids, tuple(instances))


def measure(
    ids: npt.NDArray[np.uint16], number: int, box: tuple[slice, slice], area: int, spread: float
) -> Instance:
    rows, columns = box
    y, x = np.nonzero(ids[box] == number)
    middle = ((x - x.mean()) ** 2 + (y - y.mean()) ** 2).argmin()
    return Instance(
        number,
        float(np.clip(1 - spread / 64, 0, 1)),
        (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start),
        area,
        (float(columns.start + x[middle]), float(rows.start + y[middle])),
    )
