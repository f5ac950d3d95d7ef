# SPDX-License-Identifier: Apache-2.0
"""Colours that stand for instances: drawing them apart, and finding them again without a palette.

Pixels are uint8 (h, w, 3) here; distances are Euclidean in RGB of 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.tasks.types import Float

DARKEST = 0.35
"""The brightest channel of an instance's colour is at least this: black is the background."""
DRAWS = 12
BITS = 5
LEVELS, WIDTH = 1 << BITS, 1 << (8 - BITS)
"""The colour histogram has LEVELS cells of WIDTH levels per channel."""
MOST_COLOURS = 255
NOISE_REACH = 4.0
"""Standard deviations of the noise that one colour may reach from its centre."""
KERNEL = np.ones((3, 3), np.uint8)
COLOURLESS = 0.15
"""Mean difference of the channels of bright pixels under which an image is white on black."""
BRIGHT = 0.4

Labels = npt.NDArray[np.int32]
Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Palette:
    """How colours are told apart.

    background: within this of black is nobody. tolerance: least radius of one colour; it grows with
    the noise that is measured. smallest: share of the image below which a segment is dropped.
    solid: share of a segment that a 3x3 erosion must leave (halos are thin). merge: segments of one
    colour are one instance if their joint box is at most this many times their boxes; 0 never.
    """

    background: float = 36.0
    tolerance: float = 14.0
    smallest: float = 2e-4
    solid: float = 0.1
    merge: float = 5.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value >= 0:
                raise ValueError(f"{field.name} must not be negative, found {value}")
        if self.tolerance < 1:
            raise ValueError(f"tolerance must be at least 1 (of 255), found {self.tolerance}")


def is_colourless(colours: Float) -> bool:
    """Whether what is bright in the image is grey or white; so is an image without anything."""
    sample = colours[::4, ::4].reshape(-1, 3)  # a sixteenth of the pixels tells enough
    sample = sample[sample.max(axis=1) > BRIGHT]
    return not len(sample) or float(np.ptp(sample, axis=1).mean()) < COLOURLESS


def random_colours(count: int, rng: np.random.Generator) -> Float:
    """(count + 1, 3) float32 in [0, 1]; row 0 is black. Each is the draw that lies farthest from
    those before it, of DRAWS."""
    colours = np.zeros((count + 1, 3), np.float32)
    for row in range(1, count + 1):
        draws = rng.uniform(0, 1, (DRAWS, 3)).astype(np.float32)
        brightest = np.maximum(draws.max(axis=1, keepdims=True), 1e-3)
        draws = np.clip(draws * np.maximum(1, DARKEST / brightest), 0, 1)
        gaps = np.linalg.norm(draws[:, None] - colours[None, :row], axis=-1).min(axis=1)
        colours[row] = draws[gaps.argmax()]
    return colours


def placed_colours(columns: Floats, rows: Floats, shares: Floats) -> list[Floats]:
    """Red, green and blue (N,) of instances by where they are and how large, for networks of one
    step: the mean of random colours would be grey. Red grows with the centroid's column and green
    with its row, both in 0..1, blue with the square root of the share of the image, each from 0.2
    to 1."""
    sizes = np.minimum(1.6 * np.sqrt(shares), 1)
    return [np.asarray(0.2 + 0.8 * value) for value in (columns, rows, sizes)]


def noise_level(pixels: Pixels, smooth: Pixels) -> float:
    """Robust standard deviation of what a median filter took away from coloured pixels."""
    every = np.s_[::4, ::4]  # a sixteenth of the pixels tells enough
    smooth, pixels = smooth[every], pixels[every]
    coloured = brightest(smooth) > 60  # darker ones are cut off at 0
    if not coloured.any():
        return 0.0
    difference = np.asarray(cv2.absdiff(pixels, smooth), np.uint8)[coloured]
    # A histogram's middle is the median, and cheaper.
    counts = np.cumsum(np.bincount(difference.ravel(), minlength=256))
    median = float(np.searchsorted(counts, counts[-1] / 2))
    return 1.4826 * median / 2.5  # 2.5: noise of the shrunk image over that of its colours


def flat_pixels(smooth: Pixels, radius: float) -> npt.NDArray[np.bool_]:
    """Where no channel changes by more than `radius` within 3x3 pixels."""
    edges = np.asarray(cv2.morphologyEx(smooth, cv2.MORPH_GRADIENT, KERNEL), np.uint8)
    flat: npt.NDArray[np.bool_] = brightest(edges.reshape(smooth.shape)) <= radius
    return flat


def find_colours(
    smooth: Pixels, flat: npt.NDArray[np.bool_], palette: Palette, radius: float
) -> Float:
    """Modes of the colour histogram (K + 1, 3), row 0 black. Only flat pixels vote: edges between
    two colours hold every colour in between."""
    flat = flat & (squared_norm(smooth) > palette.background**2)
    votes = smooth[flat]
    if not len(votes):
        return np.zeros((1, 3), np.float32)
    colours, left = histogram(votes)
    needed = max(2.0, 0.25 * palette.smallest * flat.size)
    centres = [np.zeros(3, np.float32)]
    while len(centres) <= MOST_COLOURS and left.max() >= 2:  # lone votes make no colour
        near = ((colours - colours[left.argmax()]) ** 2).sum(axis=1) <= radius**2
        centre = (colours[near] * left[near, None]).sum(axis=0) / left[near].sum()
        near |= ((colours - centre) ** 2).sum(axis=1) <= radius**2
        if left[near].sum() >= needed:
            centres.append(centre)
        left[near] = 0
    return np.stack(centres)


def histogram(votes: Pixels) -> tuple[Float, Float]:
    """Occupied cells of the colour histogram of (N, 3): their mean colours (K, 3), counts (K,)."""
    cells = cell_of(votes)
    counts = np.bincount(cells, minlength=LEVELS**3)
    used = np.flatnonzero(counts)
    sums = [np.bincount(cells, votes[:, c], LEVELS**3)[used] for c in range(3)]
    means = np.stack(sums, axis=1) / counts[used, None]
    return means.astype(np.float32), counts[used].astype(np.float32)


def cell_of(pixels: Pixels) -> npt.NDArray[np.int32]:
    """Index of the histogram cell of colours (..., 3)."""
    r, g, b = (pixels[..., c].astype(np.int32) >> (8 - BITS) for c in range(3))
    cells: npt.NDArray[np.int32] = (r << 2 * BITS) | (g << BITS) | b
    return cells


def nearest_colour(smooth: Pixels, centres: Float, background: float) -> Labels:
    """Row of the nearest centre for every pixel (h, w), by a table over histogram cells; 0 for
    what lies within `background` of black or nearest to it."""
    cells = cell_of(smooth)
    used = np.flatnonzero(np.bincount(cells.ravel(), minlength=LEVELS**3))
    levels = np.stack([used >> 2 * BITS, (used >> BITS) % LEVELS, used % LEVELS], axis=1)
    middles = (levels * WIDTH + (WIDTH - 1) / 2).astype(np.float32)
    # |m - c|^2 less |m|^2, which is the same for every centre: one small matrix product.
    distances = (centres**2).sum(axis=1) - 2 * middles @ centres.T
    table = np.zeros(LEVELS**3, np.int32)
    table[used] = distances.argmin(axis=1)
    kinds = table[cells]
    kinds[squared_norm(smooth) <= background**2] = 0
    return kinds


def brightest(pixels: Pixels) -> Pixels:
    """The largest channel (h, w); far faster than numpy's reduction of a short axis."""
    red, green, blue = cv2.split(pixels)
    return np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8).reshape(pixels.shape[:2])


def squared_norm(pixels: npt.NDArray[np.generic]) -> Float:
    """Sum of the squared channels of (..., C), float32."""
    first, *others = (np.asarray(pixels[..., c], np.float32) for c in range(pixels.shape[-1]))
    total = first**2
    for channel in others:
        total += channel**2
    return total
