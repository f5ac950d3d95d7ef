# SPDX-License-Identifier: Apache-2.0
"""NYU Depth v2 (Silberman et al. 2012), labelled images, in both forms people have it.

- `nyu_depth_v2_labeled.mat`, as published (needs h5py), beside `splits.mat` where there is one:
  the 654 test images, else all 1449. Depth is the filled `depths`; `instances` are the objects.
- the extracted folder of BTS and its followers: `<scene>/rgb_00045.jpg` beside
  `<scene>/sync_depth_00045.png`, 16 bits, millimetres (`official_splits/test` of 654 images).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from diception_ros.evaluation.datasets.readers import below, known_depth, read_rgb
from diception_ros.evaluation.datasets.sample import DataSet, Item, Object, Sample, object_of

MAT = "nyu_depth_v2_labeled.mat"


def fits_nyu(path: Path) -> bool:
    return (path / MAT).is_file() or path.name == MAT or bool(_pairs(path, limit=1))


def open_nyu(path: Path) -> DataSet:
    """path: the .mat, its folder, or a folder of extracted scenes."""
    file = path if path.name == MAT else path / MAT
    if file.is_file():
        return DataSet(
            "nyu", path, tuple(_mat_items(file)), ("depth", "entity", "point"), "nyu-eigen"
        )
    items = [
        Item(name, partial(_load_pair, name, image, depth)) for name, image, depth in _pairs(path)
    ]
    return DataSet("nyu", path, tuple(items), ("depth",), "nyu-eigen")


def _pairs(path: Path, limit: int = 0) -> list[tuple[str, Path, Path]]:
    found = []
    for depth in sorted(below(path, "**/sync_depth_*.png")):
        stem = depth.stem.removeprefix("sync_depth_")
        for suffix in (".jpg", ".png"):
            image = depth.with_name(f"rgb_{stem}{suffix}")
            if image.is_file():
                name = image.relative_to(path).with_suffix("").as_posix()
                found.append((name, image, depth))
                break
        if limit and len(found) == limit:
            break
    return found


def _load_pair(name: str, image: Path, depth: Path) -> Sample:
    group = name.rsplit("/", 1)[0] if "/" in name else ""
    return Sample(name, read_rgb(image), group, depth_m=known_depth(depth, 0.001))


def _mat_items(file: Path) -> list[Item]:
    splits = file.with_name("splits.mat")
    with open_hdf5(file) as content:
        count = content["depths"].shape[0]
    rows = loadmat(splits)["testNdxs"].ravel() - 1 if splits.is_file() else np.arange(count)
    return [Item(f"{int(row) + 1:04d}", partial(_load_mat, file, int(row))) for row in rows]


def _load_mat(file: Path, row: int) -> Sample:
    """As MATLAB stores it: (images, channels, columns, rows)."""
    with open_hdf5(file) as content:
        rgb = np.ascontiguousarray(np.asarray(content["images"][row]).T.astype(np.uint8))
        depth = np.asarray(content["depths"][row]).T.astype(np.float32)
        objects = _objects(content, row)
    depth = np.where(depth > 0, depth, np.float32(np.nan)).astype(np.float32)
    return Sample(f"{row + 1:04d}", rgb, depth_m=depth, objects=objects)


def _objects(content: Any, row: int) -> tuple[Object, ...] | None:
    """Each pair of label and instance is one object, as the data set's toolbox takes them."""
    if "labels" not in content or "instances" not in content:
        return None
    labels = np.asarray(content["labels"][row]).T.astype(np.int64)
    instances = np.asarray(content["instances"][row]).T.astype(np.int64)
    keys = np.where((labels > 0) & (instances > 0), labels * 1000 + instances, 0)
    return tuple(object_of(keys == key) for key in np.unique(keys) if key)


def open_hdf5(file: Path) -> Any:
    """An HDF5 file to read. ValueError without h5py, or for a file that is none."""
    try:
        import h5py
    except ImportError as error:
        raise ValueError(f"{file.name} needs h5py: pip install h5py") from error
    try:
        return h5py.File(file, "r")
    except OSError as error:
        raise ValueError(f"{file}: cannot be read as HDF5: {error}") from error
