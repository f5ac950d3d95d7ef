# SPDX-License-Identifier: Apache-2.0
"""What the demo shows its node: images, what is known about them, and files to hand them over."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]

REFERENCE_SHARE = 0.01
REFERENCE_NOISE = 0.01


@dataclass(frozen=True)
class DemoFrame:
    """One image and its ground truth, None where there is none.

    rgb (H, W, 3) uint8. intrinsics: fx, fy, cx, cy in pixels. depth_m, reference_m (H, W) float32
    metres along Z, NaN unknown; the reference is what the node is given, never the full truth.
    normals (H, W, 3) float32 optical frame. ids (H, W) uint16, 0 none. classes (H, W) uint8, i + 1
    for class_names[i], 0 none of them. points (x, y) pixels of one object, whose mask is
    point_mask. keypoints (K, 2) visible joints, pixels (x, y); people (K,) whose they are.
    credit: where the image is from. sequence: one of a moving camera's frames.
    """

    name: str
    rgb: npt.NDArray[np.uint8]
    credit: str
    sequence: bool = False
    intrinsics: tuple[float, float, float, float] | None = None
    depth_m: Float | None = None
    reference_m: Float | None = None
    normals: Float | None = None
    ids: npt.NDArray[np.uint16] | None = None
    points: tuple[tuple[float, float], ...] = ()
    point_mask: npt.NDArray[np.bool_] | None = None
    classes: npt.NDArray[np.uint8] | None = None
    class_names: tuple[str, ...] = ()
    keypoints: Float | None = None
    people: npt.NDArray[np.int64] | None = None


def with_reference(frame: DemoFrame, rng: np.random.Generator) -> DemoFrame:
    """Adds what a cheap range sensor gives: 1% of the known depths, each with 1% noise (sigma)."""
    if frame.depth_m is None:
        return frame
    noise = 1 + REFERENCE_NOISE * rng.standard_normal(frame.depth_m.shape)
    seen = rng.random(frame.depth_m.shape) < REFERENCE_SHARE
    reference = np.where(seen, frame.depth_m * noise, np.nan).astype(np.float32)
    return replace(frame, reference_m=reference)


def with_point(frame: DemoFrame) -> DemoFrame:
    """Adds a point prompt in the middle of the largest object that stands free of the border, or
    simply the largest: its pixel farthest from the object's edge.
    """
    if frame.ids is None or not frame.ids.any():
        return frame
    from scipy.ndimage import distance_transform_edt

    border = np.ones(frame.ids.shape, np.bool_)
    border[2:-2, 2:-2] = False
    areas = np.bincount(frame.ids.ravel())
    areas[0] = 0
    free = areas.copy()
    free[np.unique(frame.ids[border])] = 0
    chosen = int(np.argmax(free if free.any() else areas))
    mask = frame.ids == chosen
    y, x = np.unravel_index(int(np.argmax(distance_transform_edt(mask))), mask.shape)
    return replace(frame, points=((float(x), float(y)),), point_mask=mask)


def save_frames(frames: list[DemoFrame], folder: Path) -> None:
    """One .npz per frame, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.npz"):
        old.unlink()
    for i, frame in enumerate(frames):
        known = {item.name: getattr(frame, item.name) for item in fields(frame)}
        arrays: dict[str, Any] = {k: v for k, v in known.items() if v is not None}
        arrays["class_names"] = np.array(frame.class_names, np.str_)
        np.savez(folder / f"{i:03d}_{frame.name}.npz", **arrays)


def load_frames(folder: Path) -> list[DemoFrame]:
    """What save_frames wrote. ValueError if the folder holds none."""
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise ValueError(f"{folder} holds no demo frames (*.npz): make them with 'diception demo'")
    return [_load(file) for file in files]


def _load(file: Path) -> DemoFrame:
    with np.load(file, allow_pickle=False) as stored:
        values: dict[str, Any] = dict(stored)
    for name in ("name", "credit"):
        values[name] = str(values[name])
    values["class_names"] = tuple(str(name) for name in values["class_names"])
    values["sequence"] = bool(values["sequence"])
    values["points"] = tuple((float(x), float(y)) for x, y in values["points"].reshape(-1, 2))
    if "intrinsics" in values:
        values["intrinsics"] = tuple(float(value) for value in values["intrinsics"])
    return DemoFrame(**values)
