# SPDX-License-Identifier: Apache-2.0
"""From a rendered frame to one training example: image, prompt, points, colours to generate.

The colours are those of diception_ros.tasks, with one choice that a small one-step network needs:
an entity's colour is a function of where it is and how large, because the mean of random colours,
which is what one step would answer, is grey.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from diception_ros.tasks import (
    TASKS,
    Instances,
    Keypoints,
    Mask,
    Normals,
    disparity_from_depth,
    farthest_disparity,
)
from diception_ros.tasks.colours import placed_colours
from diception_ros.training.scenes import CATEGORIES, Frame

Float = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Rng = np.random.Generator

COPY = "copy"
"""Not a task of the product: output the input image, under the empty prompt."""
SPOT = "spot"
"""Not a task of the product either: a white spot at the inside points, under the point prompt."""
NAMED = tuple(name for name in CATEGORIES if name)
MIN_AREA = 24
"""Pixels of 128 x 128 under which an instance is neither asked for nor drawn; see least_area."""
AIMED = 0.4
"""Share of clicks that are at the innermost pixel of what they are meant for."""
LIMBS = (
    *((1, 2), (2, 3), (4, 5), (5, 6), (1, 4)),
    *((7, 8), (8, 9), (10, 11), (11, 12), (7, 10)),
    *((1, 7), (4, 10), (0, 1), (0, 7)),
)
"""Pairs of the 13 keypoints: nose, then per side shoulder, elbow, wrist, hip, knee, ankle."""


def least_area(pixels: int) -> float:
    """MIN_AREA in a picture of so many pixels."""
    return MIN_AREA * pixels / 128**2


def prompts() -> tuple[str, ...]:
    """Every prompt that is trained: the empty one first."""
    plain = [task.prompt for task in TASKS.values() if not task.takes_category]
    named = [
        task.prompt_for(name) for task in TASKS.values() if task.takes_category for name in NAMED
    ]
    return ("", *plain, *named)


def prompts_of(task: str) -> tuple[str, ...]:
    """Those that frames are asked with for a task; none for one that no frame shows."""
    if task == COPY:
        return ("",)
    row = TASKS.get("point" if task == SPOT else task)
    categories = NAMED if row and row.takes_category else (None,)
    return tuple(row.prompt_for(category) for category in categories) if row else ()


def ordered(points: torch.Tensor, order: str) -> torch.Tensor:
    """Points (..., 2) of (row, column) in a bundle's axis order, see BundleInfo.point_order."""
    return points.flip(-1) if order == "col-row" else points


@dataclass(frozen=True)
class Example:
    """image (H, W, 3) uint8; colours (H, W, 3) float32 in [0, 1]; points (5, 2) in 0..1 in
    (row, column) order and labels (5,), unused ones (0, 0) with label 0. keys: names under which
    the latents of image and colours may be remembered, None for those that never come again.
    base: of a disparity, see tasks.depth.farthest_disparity; NaN where it is not known.
    """

    image: npt.NDArray[np.uint8]
    colours: Float
    prompt: str
    points: Float
    labels: npt.NDArray[np.int64]
    keys: tuple[Hashable, Hashable] = (None, None)
    base: float = math.nan


def make_example(frame: Frame, task: str, rng: Rng, category: str = "") -> Example:
    """One example of `task` (a key of TASKS, COPY or SPOT); category: for the semantic task."""
    points, labels = np.zeros((5, 2), np.float32), np.zeros(5, np.int64)
    if task == COPY:
        return Example(frame.rgb, frame.rgb.astype(np.float32) / 255, "", points, labels)
    if task == SPOT:
        points, labels = draw_points(np.ones(frame.depth.shape, bool), rng)
        spot = spots(points[labels == 1], frame.depth.shape)
        return Example(frame.rgb, spot, TASKS["point"].prompt, points, labels)
    if task == "point":
        mask = frame.instances == pick_instance(frame.instances, rng)
        points, labels = draw_points(mask, rng)
        colours = soft(TASKS[task].encode(Mask(mask, mask.astype(np.float32))))
    else:
        colours = colours_of(frame, task, category)
    prompt = TASKS[task].prompt_for(category or None)
    base = farthest_disparity(frame.depth) if task == "depth" else math.nan
    return Example(frame.rgb, colours, prompt, points, labels, base=base)


def colours_of(frame: Frame, task: str, category: str = "") -> Float:
    """The colours that tasks without points are trained to generate, (H, W, 3) in [0, 1]."""
    if task == "entity":
        return entity_colours(frame.instances)
    encode = TASKS[task].encode
    if task == "depth":
        return encode(disparity_from_depth(frame.depth))
    if task == "normal":
        return encode(Normals(frame.normals))
    if task == "semantic":
        here = frame.categories == CATEGORIES.index(category)
        return soft(encode(Instances(np.where(here, frame.instances, 0), (), category)))
    if task == "pose":
        layers = [encode(person, limbs=limbs) for person, limbs in people(frame)]
        return np.max([np.zeros((*frame.depth.shape, 3), np.float32), *layers], axis=0)
    raise ValueError(f"no scene shows the task '{task}', expected one of {', '.join(TASKS)}")


def spots(points: Float, size: tuple[int, int]) -> Float:
    """White disks of a tenth of the height around points (N, 2) (row, column) in 0..1, on black."""
    canvas = np.zeros((*size, 3), np.float32)
    for row, column in (points * np.float32(size)).round().astype(int).tolist():
        cv2.circle(canvas, (column, row), size[0] // 10, (1.0, 1.0, 1.0), -1, cv2.LINE_AA)
    return canvas


def soft(colours: Float) -> Float:
    """Edges a pixel soft, as the paper's masks have."""
    return np.asarray(cv2.GaussianBlur(colours, (3, 3), 0))


def people(frame: Frame) -> list[tuple[Keypoints, list[tuple[int, int]]]]:
    """The visible keypoints of every person and the limbs between them."""
    found = []
    for _, points, visible in frame.keypoints:
        row = np.cumsum(visible) - 1
        limbs = [(int(row[a]), int(row[b])) for a, b in LIMBS if visible[a] and visible[b]]
        shown = points[visible]
        found.append((Keypoints(shown, np.ones(len(shown), np.float32), frame.depth.shape), limbs))
    return found


def entity_colours(instances: npt.NDArray[np.uint16]) -> Float:
    """Each instance the colour of its place and size (`placed_colours`), background black."""
    height, width = instances.shape
    counts = np.bincount(instances.ravel())
    rows, columns = np.mgrid[0:height, 0:width]
    total = np.maximum(counts, 1)
    row = np.bincount(instances.ravel(), weights=rows.ravel()) / total / height
    column = np.bincount(instances.ravel(), weights=columns.ravel()) / total / width
    palette = np.stack(placed_colours(column, row, counts / instances.size), axis=1)
    palette[counts < least_area(instances.size)] = 0
    palette[0] = 0
    return palette.astype(np.float32)[instances]


def pick_instance(instances: npt.NDArray[np.uint16], rng: Rng) -> int:
    """The id of a random instance that is large enough; 0 if there is none."""
    counts = np.bincount(instances.ravel())
    counts[0] = 0
    large = np.flatnonzero(counts >= 2 * least_area(instances.size))
    return int(rng.choice(large)) if len(large) else 0


def draw_points(mask: Bool, rng: Rng) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """One to three points inside the mask, the first of them often its innermost one, at which
    people aim, and sometimes one or two outside (label 0)."""
    points, labels = np.zeros((5, 2), np.float32), np.zeros(5, np.int64)
    inside = np.argwhere(mask)
    outside = np.argwhere(~mask)
    count = int(rng.choice([1, 1, 1, 2, 3]))
    extra = int(rng.choice([0, 0, 0, 1, 2])) if len(outside) else 0
    chosen = inside[rng.integers(len(inside), size=count)]
    if rng.random() < AIMED:
        chosen[0] = innermost(mask)
    if extra:
        chosen = np.concatenate([chosen, outside[rng.integers(len(outside), size=extra)]])
    points[: len(chosen)] = chosen / np.float32(mask.shape)
    labels[:count] = 1
    return points, labels


def innermost(mask: Bool) -> tuple[int, int]:
    """(row, column) of the pixel farthest from the mask's edge; the image's border is an edge."""
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)
    row, column = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return int(row) - 1, int(column) - 1
