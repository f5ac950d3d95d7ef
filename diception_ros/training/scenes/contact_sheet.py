# SPDX-License-Identifier: Apache-2.0
"""A page of scenes with all their truth, for a person to look at."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from diception_ros.evaluation.sheet import Row, write_sheet
from diception_ros.tasks import Instances, Keypoints, MetricDepth, Normals
from diception_ros.tasks.show import colorize, write
from diception_ros.training.cache import HELD_OUT, frame_of
from diception_ros.training.scenes import CATEGORIES, Frame, known_instances, sample_world

COLUMNS = ("image", "depth", "normals", "instances", "categories", "keypoints")
ENLARGED = 160
"""Pixels a side at least, about what a picture of the sheet has."""


def contact_sheet(path: Path, first: int, count: int, size: int) -> None:
    """A row for each seed from `first` on, as PNG; frames of size x size pixels."""
    rows = [row_of(seed, size) for seed in range(first, first + count)]
    notes = (
        f"a row per seed, {first} to {first + count - 1}; {size} x {size} pixels",
        "depth: near warm, far cold, sky black; normals: (n + 1) / 2, x left, y up, z to viewer",
    )
    write_sheet(path, rows, COLUMNS, "Rendered scenes and their ground truth", notes)


def row_of(seed: int, size: int) -> Row:
    frame = frame_of(seed, size)
    new = ""
    if seed >= HELD_OUT:
        shown = np.unique(frame.instances)
        new = f", {(shown > known_instances(sample_world(seed))).sum()} of held-out kinds"
    subtitle = f"{len(np.unique(frame.instances[frame.instances > 0]))} things{new}; {span(frame)}"
    return Row(str(seed), subtitle, pictures(frame))


def span(frame: Frame) -> str:
    """Depth range in metres, and the focal length in pixels."""
    near, far = np.nanmin(frame.depth), np.nanmax(frame.depth)
    return f"{near:.1f} to {far:.1f} m; f = {frame.intrinsics[0]:.0f} px"


def pictures(frame: Frame) -> dict[str, np.ndarray]:
    """The pictures of COLUMNS; no keypoints where nobody is seen."""
    scale = max(1, -(-ENLARGED // frame.rgb.shape[1]))
    frame = enlarged(frame, scale)
    depth = MetricDepth(frame.depth, np.isfinite(frame.depth), 0.0)
    shown = {
        "image": frame.rgb,
        "depth": colorize(depth),
        "normals": colorize(Normals(frame.normals)),
        "instances": colorize(Instances(frame.instances, ()), image=frame.rgb),
        "categories": named(frame),
    }
    points = [xy[visible] for _, xy, visible in frame.keypoints if visible.any()]
    if points:
        joints = np.concatenate(points)
        found = Keypoints(joints, np.ones(len(joints), np.float32), frame.depth.shape)
        shown["keypoints"] = colorize(found, image=frame.rgb)
    return shown


def enlarged(frame: Frame, scale: int) -> Frame:
    """Every pixel as a square of scale x scale pixels."""
    maps = (frame.rgb, frame.depth, frame.normals, frame.instances, frame.categories)
    larger = [m.repeat(scale, 0).repeat(scale, 1) for m in maps]
    points = [(i, (xy + 0.5) * scale - 0.5, visible) for i, xy, visible in frame.keypoints]
    return Frame(*larger, frame.intrinsics, tuple(points))


def named(frame: Frame) -> np.ndarray:
    """Categories in colours, their names written on the largest instances."""
    picture = colorize(Instances(frame.categories, ()), image=frame.rgb)
    areas = np.bincount(frame.instances.ravel())
    areas[0] = 0
    for instance in np.argsort(areas)[::-1][:8]:
        rows, columns = np.nonzero(frame.instances == instance)
        if areas[instance] < 0.004 * frame.instances.size:
            break
        name = CATEGORIES[frame.categories[rows[0], columns[0]]]
        write_centred(picture, name, float(columns.mean()), float(rows.mean()))
    return picture


def write_centred(picture: np.ndarray, text: str, column: float, row: float) -> None:
    """White on black, centred at a pixel and within the picture."""
    font, large = cv2.FONT_HERSHEY_SIMPLEX, picture.shape[1] / 460
    (width, height), _ = cv2.getTextSize(text, font, large, 1)
    left = np.clip(column - width / 2, 2, max(2, picture.shape[1] - width - 2))
    base = np.clip(row + height / 2, height + 2, picture.shape[0] - 4)
    write(picture, text, (int(left), int(base)), large)
