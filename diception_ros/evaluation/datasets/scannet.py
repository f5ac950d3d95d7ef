# SPDX-License-Identifier: Apache-2.0
"""ScanNet (Dai et al. 2017), frames as its SensReader exports them and as `scannet_frames_25k` has
them: `<scene>/color/<frame>.jpg` beside `<scene>/depth/<frame>.png` (16 bits, millimetres).

The depth camera's image is smaller than the colour camera's; the colour image is shrunk to it, as
the field does.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np

from diception_ros.evaluation.datasets.readers import below, known_depth, read_rgb
from diception_ros.evaluation.datasets.sample import DataSet, Item, Sample

SCENES = "scene[0-9]*_[0-9]*"


def fits_scannet(path: Path) -> bool:
    return next(below(path, f"**/{SCENES}/color"), None) is not None


def open_scannet(path: Path) -> DataSet:
    """path: a folder with scenes at any depth."""
    items = []
    for folder in sorted(below(path, f"**/{SCENES}/color")):
        scene = folder.parent
        frames = [image for image in folder.iterdir() if image.suffix in (".jpg", ".png")]
        for image in sorted(frames, key=lambda file: (len(file.stem), file.stem)):
            depth = scene / "depth" / f"{image.stem}.png"
            if depth.is_file():
                name = f"{scene.name}/color/{image.stem}"
                items.append(Item(name, partial(_load, name, scene.name, image, depth)))
    return DataSet("scannet", path, tuple(items), ("depth",), "scannet")


def _load(name: str, group: str, image: Path, depth: Path) -> Sample:
    metres, rgb = known_depth(depth, 0.001), read_rgb(image)
    if rgb.shape[:2] != metres.shape:
        size = (metres.shape[1], metres.shape[0])
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    return Sample(name, rgb, group, depth_m=metres)
