# SPDX-License-Identifier: Apache-2.0
"""DIODE (Vasiljevic et al. 2019), as published: `{val,train}/{indoors,outdoor}/<scene>/<scan>/`
with `<stem>.png`, `<stem>_depth.npy` (H, W, 1 metres), `<stem>_depth_mask.npy` (1 = valid) and, of
the second archive, `<stem>_normal.npy` (H, W, 3), put into the same folders.

Normals come with x right, y up, z towards the viewer and in part turned away; like Metric3D's
evaluation they are turned to face the camera, by the published intrinsics.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.datasets.readers import FRAMES, UNIT, below, load_array, read_rgb
from diception_ros.evaluation.datasets.sample import DataSet, Float, Item, Sample

FX, FY, CX, CY = 886.81, 927.06, 512.0, 384.0
"""px, of the 1024 x 768 images; DIODE development kit, intrinsics.txt."""
DEPTH = "_depth.npy"


def fits_diode(path: Path) -> bool:
    return next(below(path, "**/*_depth_mask.npy"), None) is not None


def open_diode(path: Path) -> DataSet:
    """path: the folder above, or any below, such as val/indoors."""
    items, normals = [], False
    for depth in sorted(below(path, f"**/*{DEPTH}")):
        stem = depth.with_name(depth.name.removesuffix(DEPTH))
        image = stem.with_name(f"{stem.name}.png")
        if image.is_file():
            name = stem.relative_to(path).as_posix()
            items.append(Item(name, partial(_load, name, stem)))
            normals |= stem.with_name(f"{stem.name}_normal.npy").is_file()
    tasks = ("depth", "normal") if normals else ("depth",)
    return DataSet("diode", path, tuple(items), tasks, "diode")


def _load(name: str, stem: Path) -> Sample:
    def file(kind: str) -> Path:
        return stem.with_name(f"{stem.name}{kind}")

    rgb, depth = read_rgb(file(".png")), load_array(file(DEPTH)).squeeze().astype(np.float32)
    mask = load_array(file("_depth_mask.npy")).squeeze() > 0
    if not depth.shape == mask.shape == rgb.shape[:2]:
        raise ValueError(
            f"{stem.name}: depth {depth.shape} and mask {mask.shape} do not fit the image "
            f"{rgb.shape[:2]}"
        )
    metres = np.where(mask & (depth > 0), depth, np.float32(np.nan)).astype(np.float32)
    normals = None
    if file("_normal.npy").is_file():
        normals = turn_to_camera(load_array(file("_normal.npy")).squeeze())
    return Sample(name, rgb, stem.parent.name, depth_m=metres, normals=normals)


def turn_to_camera(stored: npt.NDArray[np.floating]) -> Float:
    """Vectors (H, W, 3) as stored -> unit, optical frame, facing the camera; NaN unknown."""
    if stored.ndim != 3 or stored.shape[2] != 3:
        raise ValueError(f"expected normals (H, W, 3), found {stored.shape}")
    height, width = stored.shape[:2]
    vectors = stored.astype(np.float32) * np.array(FRAMES["opengl"], np.float32)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    known = (length > UNIT[0]) & (length < UNIT[1])
    y, x = np.mgrid[:height, :width].astype(np.float32)
    scale = width / 1024
    rays = np.stack([(x / scale - CX) / FX, (y / scale - CY) / FY, np.ones_like(x)], axis=-1)
    away = (vectors * rays).sum(axis=-1, keepdims=True) > 0
    turned = np.where(away, -vectors, vectors) / np.where(known, length, 1)
    unit: Float = np.where(known, turned, np.float32(np.nan)).astype(np.float32)
    return unit
