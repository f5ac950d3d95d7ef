# SPDX-License-Identifier: Apache-2.0
"""Hypersim (Roberts et al. 2021), as published (needs h5py): `<scene>/images/` with, by camera,
`scene_cam_00_final_preview/frame.0000.tonemap.jpg` and, in `scene_cam_00_geometry_hdf5/`,
`frame.0000.depth_meters.hdf5`, `.normal_cam.hdf5` and `.semantic_instance.hdf5`.

`depth_meters` is the distance to the camera's centre; it is turned into depth along the axis with
the focal length of 886.81 px at 1024 x 768, as the field does. `normal_cam`: x right, y up, z
towards the viewer.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.datasets.nyu import open_hdf5
from diception_ros.evaluation.datasets.readers import FRAMES, UNIT, below, read_rgb
from diception_ros.evaluation.datasets.sample import DataSet, Float, Item, Sample, objects_of

FOCAL = 886.81 / 1024
"""Focal length in image widths."""
DEPTH = ".depth_meters.hdf5"
GEOMETRY = "_geometry_hdf5"


def fits_hypersim(path: Path) -> bool:
    return next(below(path, f"**/scene_cam_*{GEOMETRY}"), None) is not None


def open_hypersim(path: Path) -> DataSet:
    """path: a folder with scenes at any depth."""
    items = []
    for depth in sorted(below(path, f"**/scene_cam_*{GEOMETRY}/*{DEPTH}")):
        frame = depth.name.removesuffix(DEPTH)
        camera = depth.parent.name.removesuffix(GEOMETRY)
        preview = depth.parents[1] / f"{camera}_final_preview"
        images = [preview / f"{frame}.{kind}.jpg" for kind in ("tonemap", "color")]
        scene = depth.parents[2].name
        name = f"{scene}/{camera}/{frame}"
        found = [image for image in images if image.is_file()]
        items += [Item(name, partial(_load, name, scene, image, depth)) for image in found[:1]]
    return DataSet(
        "hypersim", path, tuple(items), ("depth", "normal", "entity", "point"), "hypersim"
    )


def _load(name: str, group: str, image: Path, depth: Path) -> Sample:
    def read(kind: str) -> npt.NDArray[Any] | None:
        file = depth.with_name(depth.name.removesuffix(DEPTH) + f".{kind}.hdf5")
        if not file.is_file():
            return None
        with open_hdf5(file) as content:
            return np.asarray(content["dataset"])

    distance, normals, ids = (
        read(kind) for kind in ("depth_meters", "normal_cam", "semantic_instance")
    )
    assert distance is not None
    return Sample(
        name,
        read_rgb(image),
        group,
        depth_m=depth_of(distance),
        normals=None if normals is None else _facing(normals),
        objects=None if ids is None else tuple(objects_of(ids)),
    )


def depth_of(distance: npt.NDArray[Any]) -> Float:
    """Distances to the camera's centre (H, W) -> metres along its axis, NaN unknown."""
    height, width = distance.shape
    y, x = np.mgrid[:height, :width].astype(np.float64)
    across = (x - (width - 1) / 2) ** 2 + (y - (height - 1) / 2) ** 2
    metres = distance / np.sqrt(1 + across / (FOCAL * width) ** 2)
    known = np.isfinite(metres) & (np.nan_to_num(metres) > 0)
    return np.where(known, metres, np.nan).astype(np.float32)


def _facing(stored: npt.NDArray[Any]) -> Float:
    vectors = np.nan_to_num(stored.astype(np.float32)) * np.array(FRAMES["opengl"], np.float32)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    known = (length > UNIT[0]) & (length < UNIT[1])
    unit: Float = np.where(known, vectors / np.where(known, length, 1), np.float32(np.nan))
    return unit.astype(np.float32)
