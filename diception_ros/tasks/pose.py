# SPDX-License-Identifier: Apache-2.0
"""Pose: a skeleton drawing whose every keypoint is a red disk. Joint types are not encoded."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from diception_ros.tasks.types import Float, Keypoints, Task

RADIUS = 0.012
"""Disk radius over the image's shorter side."""
LIMB_COLOURS = ((0, 0, 1), (0, 1, 0), (0, 0.7, 1), (0.2, 0.4, 1), (0, 1, 0.6))


def encode(
    target: Keypoints,
    rng: np.random.Generator | None = None,
    limbs: Sequence[tuple[int, int]] = (),
) -> Float:
    """Keypoints -> red disks over limbs of other colours on black. limbs: pairs of indices.
    The target's map size is that of `target.size`."""
    height, width = target.size
    canvas = np.zeros((height, width, 3), np.float32)
    radius = disk_radius(height, width)
    pixels = [(round(float(x)), round(float(y))) for x, y in target.points]
    for number, (a, b) in enumerate(limbs):
        colour = LIMB_COLOURS[number % len(LIMB_COLOURS)]
        cv2.line(canvas, pixels[a], pixels[b], colour, max(1, radius // 2), cv2.LINE_AA)
    for pixel in pixels:
        cv2.circle(canvas, pixel, radius, (1.0, 0.0, 0.0), -1, cv2.LINE_AA)
    return canvas


def decode(colours: Float, redness: float = 0.5) -> Keypoints:
    """Colours -> centres of red disks. A pixel is red where red exceeds both other channels by
    `redness`; a centre is the red-weighted mean of a connected patch of at least a quarter disk.
    score: the patch's mean redness."""
    height, width = colours.shape[:2]
    amount = colours[..., 0] - np.maximum(colours[..., 1], colours[..., 2])
    amount = cv2.GaussianBlur(np.ascontiguousarray(amount, np.float32), (0, 0), 1.0)
    patches = (amount >= redness).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(patches, connectivity=8)
    smallest = max(3.0, 0.25 * np.pi * disk_radius(height, width) ** 2)
    points, scores = [], []
    for label in range(1, count):
        left, top, w, h, area = (int(value) for value in stats[label])
        if area < smallest:
            continue
        part = np.s_[top : top + h, left : left + w]
        weight = np.where(labels[part] == label, amount[part], 0)
        rows, columns = np.mgrid[top : top + h, left : left + w]
        points.append([float((weight * grid).sum() / weight.sum()) for grid in (columns, rows)])
        scores.append(float(weight.sum() / area))
    found = np.array(points, np.float32).reshape(-1, 2)
    return Keypoints(found, np.clip(np.array(scores, np.float32), 0, 1), (height, width))


def disk_radius(height: int, width: int) -> int:
    """Pixels."""
    return max(2, round(RADIUS * min(height, width)))


TASK = Task("pose", "[[image2pose]]", encode, decode, Keypoints)
