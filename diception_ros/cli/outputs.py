# SPDX-License-Identifier: Apache-2.0
"""What `diception infer` leaves behind: one array and one picture per result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.tasks import (
    Colours,
    Disparity,
    Instances,
    Keypoints,
    Mask,
    Normals,
    Result,
)


def check_writable(path: Path) -> None:
    """OSError unless a file can be written there, before the work that it is to hold; a file that
    is there stays as it is. Folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    there = path.exists()
    with path.open("ab"):
        pass
    if not there:
        path.unlink()


def array_of(result: Result) -> npt.NDArray[Any]:
    """The plain array of a result, at the input's size.

    Disparity: (H, W) float32 relative, near = 1. Normals: (H, W, 3) float32, optical frame. Mask:
    (H, W) bool. Instances: (H, W) uint16 ids, 0 none. Keypoints: (N, 3) float32 rows x, y, score.
    Colours: (H, W, 3) float32 in [0, 1].
    """
    match result:
        case Disparity():
            return result.values
        case Normals():
            return result.vectors
        case Mask():
            return result.mask
        case Instances():
            return result.ids
        case Keypoints():
            return np.column_stack([result.points, result.scores]).astype(np.float32)
        case Colours():
            return result.rgb


def write_picture(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """RGB uint8 (H, W, 3) -> PNG. OSError if the file cannot be written."""
    encoded, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert encoded, f"OpenCV writes no {path.suffix}"
    path.write_bytes(data.tobytes())
