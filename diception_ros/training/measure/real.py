# SPDX-License-Identifier: Apache-2.0
"""Real images as frames: photographs inside other packages' wheels, folders of an RGB-D camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.material import DemoFrame
from diception_ros.evaluation.photographs import LONGER_SIDE, photographs
from diception_ros.training.scenes import CATEGORIES, Frame

MORE = ("rocket", "camera")
"""Further photographs of scikit-image, without truth."""
SUFFIXES = (".jpg", ".jpeg", ".png")


def real_images() -> list[DemoFrame]:
    """Every photograph at hand without a download. Those of scikit-image (astronaut, coffee,
    chelsea, rocket, camera) also are textures of training scenes: they are to look at, nothing is
    measured on them. ValueError where none is installed.
    """
    return [*photographs(), *more_photographs()]


def more_photographs() -> list[DemoFrame]:
    from skimage import data

    found = []
    for name in MORE:
        try:
            image = getattr(data, name)()
        except (OSError, RuntimeError, ModuleNotFoundError):  # not in this wheel: needs a download
            continue
        rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)
        found.append(DemoFrame(name, shrunk(rgb), "scikit-image"))
    return found


def shrunk(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """At most LONGER_SIDE pixels wide or high."""
    scale = min(LONGER_SIDE / max(rgb.shape), 1)
    width, height = round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def rgbd_images(folder: Path, every: int = 8) -> list[DemoFrame]:
    """Every so-many-th frame of a recording: image/NAME.jpg or .png and depth/NAME.png of the same
    size, 16-bit millimetres, 0 unknown. ValueError for a folder without such pairs, or for depth of
    another kind or size.
    """
    images = sorted(path for path in folder.glob("image/*") if path.suffix.lower() in SUFFIXES)
    pairs = [(path, folder / "depth" / f"{path.stem}.png") for path in images]
    pairs = [pair for pair in pairs if pair[1].is_file()]
    if not pairs:
        raise ValueError(
            f"{folder}: expected image/NAME.jpg or .png and depth/NAME.png of the same names, "
            f"found {len(images)} images and no pair"
        )
    return [read_pair(image, depth) for image, depth in pairs[::every]]


def read_pair(image: Path, depth: Path) -> DemoFrame:
    bgr, millimetres = cv2.imread(str(image)), cv2.imread(str(depth), cv2.IMREAD_UNCHANGED)
    if bgr is None or millimetres is None:
        raise ValueError(f"{depth if millimetres is None else image} cannot be read as an image")
    if millimetres.dtype != np.uint16 or millimetres.shape != bgr.shape[:2]:
        raise ValueError(
            f"{depth}: expected 16-bit millimetres (uint16) of the image's shape {bgr.shape[:2]}, "
            f"found {millimetres.dtype} {millimetres.shape}"
        )
    metres = np.where(millimetres > 0, millimetres / np.float32(1000), np.nan)
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    credit = f"{image.parents[1].name}, RGB-D"
    return DemoFrame(image.stem, rgb, credit, depth_m=metres.astype(np.float32))


def as_frame(image: DemoFrame) -> Frame:
    """The image with the truth it has; what is unknown is NaN or 0. Classes that training has no
    category for are left out.
    """
    size = image.rgb.shape[:2]
    table = [0, *(CATEGORIES.index(n) if n in CATEGORIES else 0 for n in image.class_names)]
    classes = np.uint16(table)[known(image.classes, np.zeros(size, np.uint8))]
    return Frame(
        image.rgb,
        known(image.depth_m, np.full(size, np.nan, np.float32)),
        known(image.normals, np.full((*size, 3), np.nan, np.float32)),
        known(image.ids, np.zeros(size, np.uint16)).astype(np.uint16),
        classes,
        image.intrinsics or (np.nan, np.nan, np.nan, np.nan),
        (),
    )


def known(values: npt.NDArray[Any] | None, otherwise: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return otherwise if values is None else values
