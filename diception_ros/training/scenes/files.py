# SPDX-License-Identifier: Apache-2.0
"""Scenes as files that other programs read: pairs for adaptation, sequences with poses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from diception_ros.training.scenes import Camera, Frame, sequence
from diception_ros.training.scenes.novel import make_pair

CONVENTION = (
    "camera_to_world: 4 x 4, metres, world z up; optical frame: x right, y down, z forward; "
    "pixel centres at whole numbers; depth: along z, 16 bit, in depth_unit_m, 0 for none"
)


def write_pairs(folder: Path, task: str, first: int, count: int, size: int) -> Iterator[Path]:
    """images/<seed>.png and targets/<seed>.png (white on black) for seeds from `first` on; yields
    each image's path once both are written. ValueError for a task that does not exist, or a folder
    that is not empty.
    """
    check_empty(folder)
    for seed in range(first, first + count):
        pair = make_pair(task, seed, size, size)
        name = f"{seed:06d}.png"
        white = pair.mask[..., None].repeat(3, -1) * np.uint8(255)
        write_png(folder / "targets" / name, white)
        write_png(folder / "images" / name, pair.rgb)
        yield folder / "images" / name


def write_sequence(folder: Path, seed: int, frames: int, size: int) -> Iterator[Path]:
    """rgb/<number>.png, depth/<number>.png (16 bit, millimetres) and, at the end, sequence.json
    with intrinsics and poses. Yields each rgb path. ValueError for a folder that is not empty.
    """
    check_empty(folder)
    entries = []
    for number, (frame, camera) in enumerate(sequence(seed, frames, size, size)):
        name = f"{number:06d}.png"
        write_png(folder / "depth" / name, millimetres(frame))
        write_png(folder / "rgb" / name, frame.rgb)
        pose = pose_of(camera).tolist()
        entries.append({"rgb": f"rgb/{name}", "depth": f"depth/{name}", "camera_to_world": pose})
        intrinsics = dict(zip(("fx", "fy", "cx", "cy"), frame.intrinsics, strict=True))
        yield folder / "rgb" / name
    about = {"convention": CONVENTION, "seed": seed, "width": size, "height": size}
    about |= {"intrinsics": intrinsics, "depth_unit_m": 0.001, "frames": entries}
    (folder / "sequence.json").write_text(json.dumps(about, indent=1) + "\n")


def check_empty(folder: Path) -> None:
    """ValueError, or what is there already would be taken for a part of it."""
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: choose another folder, or remove it")


def pose_of(camera: Camera) -> np.ndarray:
    """Camera to world, (4, 4)."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = camera.rotation, camera.position
    return pose


def millimetres(frame: Frame) -> np.ndarray:
    """Depth (H, W) uint16 in mm, 0 for the sky."""
    return np.clip(np.round(np.nan_to_num(frame.depth) * 1000), 0, 65535).astype(np.uint16)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """RGB uint8 (H, W, 3) or uint16 (H, W); the folder is made. OSError if it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    path.write_bytes(cv2.imencode(".png", bgr)[1].tobytes())
