# SPDX-License-Identifier: Apache-2.0
"""ETH3D (Schoeps et al. 2017), high-resolution multi-view training scenes, as its archives extract:
`<scene>/images/dslr_images/<name>.JPG` and, without any header though called .JPG too,
`<scene>/ground_truth_depth/dslr_images/<name>.JPG`: 32-bit floats, metres, inf unknown, of the
distorted image's size. Both may lie in one scene folder or in two of the same name.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from diception_ros.evaluation.datasets.readers import below, read_stored_rgb
from diception_ros.evaluation.datasets.sample import DataSet, Item, Sample

TRUTH = "ground_truth_depth/dslr_images"


def fits_eth3d(path: Path) -> bool:
    return next(below(path, f"**/{TRUTH}"), None) is not None


def open_eth3d(path: Path) -> DataSet:
    """path: a folder with scenes at any depth."""
    images = {
        (image.parents[2].name, image.name): image
        for image in below(path, "**/images/dslr_images/*.JPG")
    }
    items = []
    for depth in sorted(below(path, f"**/{TRUTH}/*.JPG")):
        scene = depth.parents[2].name
        image = images.get((scene, depth.name))
        if image is not None:
            name = f"{scene}/{depth.stem}"
            items.append(Item(name, partial(_load, name, scene, image, depth)))
    return DataSet("eth3d", path, tuple(items), ("depth",), "eth3d")


def _load(name: str, group: str, image: Path, depth: Path) -> Sample:
    rgb = read_stored_rgb(image)
    values = np.fromfile(depth, np.dtype("<f4"))
    if values.size != rgb.shape[0] * rgb.shape[1]:
        raise ValueError(
            f"{depth}: expected {rgb.shape[1]}x{rgb.shape[0]} floats as the image, found "
            f"{values.size}"
        )
    metres = values.reshape(rgb.shape[:2]).astype(np.float32)
    known = np.isfinite(metres) & (metres > 0)
    return Sample(name, rgb, group, depth_m=np.where(known, metres, np.float32(np.nan)))
