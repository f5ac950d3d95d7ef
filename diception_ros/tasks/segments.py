# SPDX-License-Identifier: Apache-2.0
"""Instances from flat colours of an unknown palette, as an imperfect decoder paints them.

Colours are found and segments cut out at no more than WORKING_SIDE pixels, then edges are drawn
again at full size. Constants are those of Vision Banana (arXiv 2604.20329, appendix A) where it
publishes one.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import label

from diception_ros.tasks.colours import (
    KERNEL,
    NOISE_REACH,
    Labels,
    Palette,
    Pixels,
    find_colours,
    flat_pixels,
    nearest_colour,
    noise_level,
    squared_norm,
)
from diception_ros.tasks.types import Float, Instance, Instances

WORKING_SIDE = 320
"""Longest side that colours are clustered at: averaging on the way removes noise, too."""
ACROSS = 6
"""Pixels at the working size between the two sides of a border: more than a soft edge is wide."""
EDGE = 0.6
"""Change within 3x3 pixels, over the radius of one colour, from which there is an edge."""
SOFT = 0.7
"""Change across a border, over the radius of one colour, under which there is no edge."""
HALO = 8
"""Pixels at the working size that a dropped halo is taken over."""
IMPURE = 64.0
"""Mean distance of a segment's pixels from its colour at which its score reaches zero."""

QUIET = 1.5
"""Noise (of 255) below which edges are taken from the pixels as they are."""

Box = tuple[int, int, int, int]
"""First row, first column, row and column after the last."""
Ids = npt.NDArray[np.uint16]
Sums = npt.NDArray[np.float64]


def find_segments(colours: Float, palette: Palette) -> Instances:
    """Colours (H, W, 3) in [0, 1] -> instances, the largest first. ValueError for another shape."""
    if colours.ndim != 3 or colours.shape[2] != 3 or colours.size == 0:
        raise ValueError(f"expected colours of shape (H, W, 3), found {colours.shape}")
    pixels = to_pixels(colours)
    small = shrink(pixels)
    smooth = np.asarray(cv2.medianBlur(small, 5), np.uint8).reshape(small.shape)
    noise = noise_level(small, smooth)
    radius = max(palette.tolerance, NOISE_REACH * noise)
    flat = flat_pixels(smooth, EDGE * radius)
    centres = find_colours(smooth, flat, palette, radius)
    kinds = nearest_colour(smooth, centres, palette.background)
    segments = connected(np.where(flat, kinds, 0))
    segments = keep_solid(segments, palette)
    segments = join_soft(segments, flat & (kinds == 0), smooth, SOFT * radius)
    segments = add_specks(segments, kinds > 0)
    sums = colour_sums(segments, smooth)
    table = join_parts(segments, sums, radius, palette.merge)
    segments, own = by_size(table[segments], regroup(sums, table))
    scores = purity(segments, smooth, own)
    segments = drop_small(grow(segments, kinds > 0, smooth, own), palette.smallest)
    if noise > QUIET:
        pixels = np.asarray(cv2.medianBlur(pixels, 3), np.uint8)
    ids = sharpen(segments, own, pixels)
    return Instances(ids, describe(ids, segments, scores))


def find_silhouettes(brightness: Float, threshold: float, smallest: float) -> Instances:
    """Brightness (H, W) in [0, 1] -> the connected parts that reach `threshold`, the largest first.
    score: a part's mean brightness."""
    parts = drop_small(connected(brightness >= threshold), smallest)
    grey = to_pixels(brightness)
    parts, means = by_size(parts, colour_sums(parts, np.stack([grey] * 3, axis=-1)))
    ids = parts.astype(np.uint16)
    return Instances(ids, describe(ids, parts, means[:, 0] / 255))


def connected(kinds: npt.NDArray[Any]) -> Labels:
    """Connected parts of one kind, diagonals included; kind 0 is background."""
    parts = label(kinds, background=0, connectivity=2)  # type: ignore[no-untyped-call]
    return np.asarray(parts, np.int32)


def to_pixels(colours: Float) -> Pixels:
    scaled = cv2.convertScaleAbs(np.maximum(colours, 0, dtype=np.float32), alpha=255)
    return np.asarray(scaled, np.uint8).reshape(colours.shape)  # OpenCV drops axes of length 1


def shrink(pixels: Pixels) -> Pixels:
    """At most WORKING_SIDE on the longest side, by area averaging."""
    scale = WORKING_SIDE / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def keep_solid(segments: Labels, palette: Palette) -> Labels:
    """Drops small and thin segments; numbers from 1."""
    areas = np.bincount(segments.ravel())
    inner = ~borders(segments)
    solid = np.bincount(segments[inner], minlength=len(areas)) / np.maximum(areas, 1)
    keep = (areas >= 4) & (solid >= palette.solid)
    keep[0] = False
    return renumber(segments, np.flatnonzero(keep))


def drop_small(segments: Labels, smallest: float) -> Labels:
    """Without segments below a share `smallest` of the image; the others keep their numbers."""
    areas = np.bincount(segments.ravel())
    return np.where(areas[segments] >= smallest * segments.size, segments, 0).astype(np.int32)


def renumber(segments: Labels, order: npt.NDArray[np.intp]) -> Labels:
    """The segments of `order` get 1, 2, ...; the others 0."""
    table = np.zeros(int(segments.max(initial=0)) + 1, np.int32)
    table[order] = np.arange(1, len(order) + 1)
    return table[segments]


def by_size(segments: Labels, sums: Sums) -> tuple[Labels, Float]:
    """Numbers from 1, the largest first, and their mean colours (N + 1, 3), row 0 black."""
    areas = sums[:, 3].copy()
    areas[0] = 0
    order = np.argsort(-areas, kind="stable")[: int((areas > 0).sum())]
    colours = np.zeros((len(order) + 1, 3), np.float32)
    colours[1:] = sums[order, :3] / sums[order, 3:]
    return renumber(segments, order), colours


def borders(segments: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Pixels whose 3x3 neighbourhood holds several numbers."""
    as_float = segments.astype(np.float32)
    different: npt.NDArray[np.bool_] = cv2.dilate(as_float, KERNEL) != cv2.erode(as_float, KERNEL)
    return different


def add_specks(segments: Labels, coloured: npt.NDArray[np.bool_]) -> Labels:
    """Adds what stands alone on the background and is too small to be flat anywhere."""
    count, blobs = cv2.connectedComponents(coloured.astype(np.uint8), connectivity=8)
    known = np.zeros(count, bool)
    known[blobs[segments > 0]] = True
    known[0] = True
    first = int(segments.max(initial=0)) + 1
    added = np.where(known, 0, first + np.arange(count)).astype(np.int32)
    return np.where(segments > 0, segments, added[blobs]).astype(np.int32)


def join_soft(
    segments: Labels, nobody: npt.NDArray[np.bool_], smooth: Pixels, step: float
) -> Labels:
    """Joins touching segments if colours change by less than `step` across their border: one
    instance whose colour drifts, cut where it passed from one centre to the next. A segment that
    fades into the background (`nobody`) so softly is a part of it."""
    marks = np.where((segments == 0) & ~nobody, -1, segments)
    low, high, change = across_borders(marks, smooth)
    count = int(segments.max(initial=0)) + 1
    keys, inverse, lengths = np.unique(low * count + high, return_inverse=True, return_counts=True)
    sums = [np.bincount(inverse, change[:, c], len(keys)) for c in range(3)]
    contrast = np.sqrt(squared_norm(np.stack(sums, axis=1) / np.maximum(lengths, 1)[:, None]))
    alike = keys[contrast < step]
    graph = coo_array((np.ones(len(alike)), (alike // count, alike % count)), (count, count))
    _, groups = connected_components(graph, directed=False)
    table = np.where(groups == groups[0], 0, groups + 1).astype(np.int32)
    joined: Labels = table[segments]
    return joined


def across_borders(marks: Labels, smooth: Pixels) -> tuple[Labels, Labels, Float]:
    """Pairs of pixels ACROSS apart with different marks: the smaller mark (N,), the larger mark,
    and the colour of the larger less that of the smaller (N, 3). Marks below 0 take no part."""
    lows, highs, changes = [], [], []
    for forward, backward in (
        (np.s_[:, ACROSS:], np.s_[:, :-ACROSS]),
        (np.s_[ACROSS:, :], np.s_[:-ACROSS, :]),
    ):
        a, b = marks[forward], marks[backward]
        at = np.nonzero((a != b) & (a >= 0) & (b >= 0))
        a, b = a[at], b[at]
        change = smooth[forward][at].astype(np.float32) - smooth[backward][at]
        lows.append(np.minimum(a, b))
        highs.append(np.maximum(a, b))
        changes.append(np.where((a > b)[:, None], change, -change))
    return np.concatenate(lows), np.concatenate(highs), np.concatenate(changes)


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


def find_boxes(segments: npt.NDArray[np.integer[Any]]) -> dict[int, Box]:
    found = ndimage.find_objects(segments)
    return {
        i: (box[0].start, box[1].start, box[0].stop, box[1].stop)
        for i, box in enumerate(found, start=1)
        if box is not None
    }


def cut(box: Box) -> tuple[slice, slice]:
    return slice(box[0], box[2]), slice(box[1], box[3])


def around(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def extent(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def grow(
    segments: Labels, coloured: npt.NDArray[np.bool_], smooth: Pixels, colours: Float
) -> Labels:
    """Gives what was dropped to the nearest segment, up to HALO pixels away, where its colour is
    nearer to that segment's than to black."""
    seeds = segments > 0
    if not seeds.any() or seeds.all():
        return segments
    away, places = cv2.distanceTransformWithLabels(
        (~seeds).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    owner = np.zeros(int(places.max()) + 1, np.int32)
    owner[places[seeds]] = segments[seeds]
    at = np.nonzero(coloured & ~seeds & (away <= HALO))
    nearest = owner[places[at]]
    own = smooth[at].astype(np.float32)
    fits = squared_norm(own - colours[nearest]) <= squared_norm(own)
    grown: Labels = segments.copy()
    grown[at] = np.where(fits, nearest, 0)
    return grown


def sharpen(segments: Labels, colours: Float, pixels: Pixels) -> Ids:
    """Segments at full size: every pixel near an edge goes to the neighbouring segment whose colour
    (N + 1, 3) is nearest to its own."""
    height, width = pixels.shape[:2]
    resized = cv2.resize(
        segments.astype(np.uint16), (width, height), interpolation=cv2.INTER_NEAREST
    )
    ids = np.asarray(resized, np.uint16).reshape(height, width)
    reach = 1 + max(height, width) // WORKING_SIDE  # what shrinking and smoothing can have moved
    kernel = np.ones((2 * reach + 1,) * 2, np.uint8)
    high = np.asarray(cv2.dilate(ids, kernel)).reshape(ids.shape)
    low = np.asarray(cv2.erode(ids, kernel)).reshape(ids.shape)
    edge = np.flatnonzero(high != low)
    own = pixels.reshape(-1, 3)[edge].astype(np.float32)
    first, second = high.ravel()[edge], low.ravel()[edge]
    nearer = squared_norm(own - colours[first]) <= squared_norm(own - colours[second])
    ids.ravel()[edge] = np.where(nearer, first, second)
    return ids


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


def purity(segments: Labels, smooth: Pixels, colours: Float) -> Float:
    """How close every segment's pixels lie to its own colour, (N + 1,) in 0..1."""
    segments, smooth = segments[::2, ::2], smooth[::2, ::2]  # a quarter of the pixels tells enough
    away = np.sqrt(squared_norm(smooth - colours[segments]))
    counts = np.bincount(segments.ravel(), minlength=len(colours))
    total = np.bincount(segments.ravel(), away.ravel(), len(colours))
    mean = total / np.maximum(counts, 1)
    return np.clip(1 - mean / IMPURE, 0, 1).astype(np.float32)


def describe(
    ids: Ids, segments: Labels, scores: npt.NDArray[np.floating[Any]]
) -> tuple[Instance, ...]:
    """Measures at full size every instance that is left in `ids`."""
    areas = cv2.calcHist([ids], [0], None, [len(scores)], [0, len(scores)]).ravel()
    middles = middle_of(segments, ids.shape)
    return tuple(
        Instance(
            number,
            float(scores[number]),
            (box[1], box[0], box[3] - box[1], box[2] - box[0]),
            int(areas[number]),
            inside(ids, number, box, middles[number]),
        )
        for number, box in find_boxes(ids).items()
    )


def middle_of(segments: Labels, size: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Centre of mass (N + 1, 2) of every segment as (row, column) of an image of `size`."""
    flat, counts = segments.ravel(), np.maximum(np.bincount(segments.ravel()), 1)
    grids = np.indices(segments.shape, np.float32)
    means = np.stack([np.bincount(flat, grid.ravel()) / counts for grid in grids], axis=1)
    return (means + 0.5) * (np.array(size) / segments.shape) - 0.5


def inside(ids: Ids, number: int, box: Box, middle: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The pixel (x, y) of the instance that is nearest to `middle` (row, column)."""
    row, column = round(float(middle[0])), round(float(middle[1]))
    height, width = ids.shape
    if 0 <= row < height and 0 <= column < width and ids[row, column] == number:
        return float(column), float(row)
    y, x = np.nonzero(ids[cut(box)] == number)
    nearest = int(((y + box[0] - middle[0]) ** 2 + (x + box[1] - middle[1]) ** 2).argmin())
    return float(x[nearest] + box[1]), float(y[nearest] + box[0])
