# SPDX-License-Identifier: Apache-2.0
"""Instances from flat colours of an unknown palette, as an imperfect decoder paints them.

Colours are found and segments cut out at no more than WORKING_SIDE pixels: flat regions of one
colour are the seeds, seeds without an edge between them are one, and what lies between seeds goes
to the nearest. Then edges are drawn again at full size. Constants are those of Vision Banana (arXiv
2604.20329, appendix A) where it publishes one.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
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
from diception_ros.tasks.joins import Sums, colour_sums, join_parts, join_soft, regroup
from diception_ros.tasks.measure import WORKING_SIDE, describe, purity, sharpen
from diception_ros.tasks.types import Float, Instances

EDGE = 0.6
"""Change within 3x3 pixels, over the radius of one colour, from which there is an edge."""
HALO = 8
"""Pixels at the working size that a dropped halo is taken over."""
QUIET = 1.5
"""Noise (of 255) below which edges are taken from the pixels as they are."""


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
    segments = join_soft(segments, flat & (kinds == 0), smooth, radius)
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
