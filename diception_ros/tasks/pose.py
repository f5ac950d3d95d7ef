# SPDX-License-Identifier: Apache-2.0
"""Pose: a skeleton drawing whose every keypoint is a red disk. Joint types are not encoded."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.tasks.types import Float, Keypoints, Task

RADIUS = 0.012
"""Disk radius over the image's shorter side."""
LIMB_COLOURS = ((0, 0, 1), (0, 1, 0), (0, 0.7, 1), (0.2, 0.4, 1), (0, 1, 0.6))
"""Not published; these stay far from red."""
SUBPIXEL = 4
"""Fractional bits of the coordinates that OpenCV draws at."""
SMALLEST = 0.25
"""Share of a disk's area below which a red patch is noise."""
MERGED = 1.5
"""Area over that of its largest inner circle from which a patch may be several disks."""

Place = tuple[float, float, float]
"""x, y, score."""


def encode(
    target: Keypoints,
    rng: np.random.Generator | None = None,
    limbs: Sequence[tuple[int, int]] = (),
) -> Float:
    """Keypoints -> red disks over limbs of other colours on black (H, W, 3), the size being that
    of the target. limbs: pairs of indices into its points."""
    height, width = target.size
    canvas = np.zeros((height, width, 3), np.float32)
    radius = disk_radius(height, width)
    fixed = [[round(float(v) * 2**SUBPIXEL) for v in point] for point in target.points]
    for number, (a, b) in enumerate(limbs):
        colour = LIMB_COLOURS[number % len(LIMB_COLOURS)]
        thickness = max(1, radius // 2)
        cv2.line(canvas, fixed[a], fixed[b], colour, thickness, cv2.LINE_AA, SUBPIXEL)
    for centre in fixed:
        cv2.circle(canvas, centre, radius << SUBPIXEL, (1, 0, 0), -1, cv2.LINE_AA, SUBPIXEL)
    return np.clip(canvas, 0, 1)


def decode(colours: Float, redness: float = 0.5) -> Keypoints:
    """Colours -> centres of red disks.

    A pixel is red where red exceeds both other channels by `redness`. A centre is the mean of a
    connected red patch, weighted by redness; patches of several disks are parted. score: the mean
    redness of the patch. ValueError unless redness lies between 0 and 1.
    """
    if not 0 < redness < 1:
        raise ValueError(f"redness must lie between 0 and 1, found {redness:g}")
    height, width = colours.shape[:2]
    red: Float = colours[..., 0] - np.maximum(colours[..., 1], colours[..., 2])
    radius = disk_radius(height, width)
    # A quarter radius takes away noise and keeps the smallest disks above the threshold.
    smooth = cv2.GaussianBlur(np.ascontiguousarray(red, np.float32), (0, 0), max(0.5, radius / 4))
    red = np.asarray(smooth, np.float32).reshape(height, width)
    patches = (red >= redness).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(patches, connectivity=8)
    places: list[Place] = []
    for label in range(1, count):
        left, top, w, h, area = (int(value) for value in stats[label])
        if area >= max(3.0, SMALLEST * np.pi * radius**2):
            part = np.s_[top : top + h, left : left + w]
            weights = np.where(labels[part] == label, red[part], 0)
            places += [(x + left, y + top, score) for x, y, score in part_disks(weights)]
    found = np.array(places, np.float32).reshape(-1, 3)
    return Keypoints(found[:, :2].copy(), np.clip(found[:, 2], 0, 1), (height, width))


def part_disks(weights: Float) -> list[Place]:
    """Centres of the disks in one red patch: (h, w), 0 outside it."""
    patch = np.pad((weights > 0).astype(np.uint8), 1)
    depth = np.asarray(cv2.distanceTransform(patch, cv2.DIST_L2, 5))[1:-1, 1:-1]
    deepest = float(depth.max())
    rows, columns = np.nonzero(weights)
    if len(rows) <= MERGED * np.pi * deepest**2:
        return [weighted_centre(weights, rows, columns)]
    # Every disk has a deepest point of its own; those of one disk lie within its radius.
    side = 2 * max(1, round(0.8 * deepest)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    peaks = (depth >= np.asarray(cv2.dilate(depth, kernel)) - 1e-3) & (depth >= 0.7 * deepest)
    _, _, _, centres = cv2.connectedComponentsWithStats(peaks.astype(np.uint8), connectivity=8)
    centres = centres[1:]
    away = (columns[:, None] - centres[:, 0]) ** 2 + (rows[:, None] - centres[:, 1]) ** 2
    owner = away.argmin(axis=1)
    return [
        weighted_centre(weights, rows[owner == i], columns[owner == i]) for i in range(len(centres))
    ]


def weighted_centre(
    weights: Float, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
) -> Place:
    own = weights[rows, columns].astype(np.float64)
    total = own.sum()
    return float(own @ columns / total), float(own @ rows / total), float(own.mean())


def disk_radius(height: int, width: int) -> int:
    """Pixels."""
    return max(2, round(RADIUS * min(height, width)))


TASK = Task("pose", "[[image2pose]]", encode, decode, Keypoints)
