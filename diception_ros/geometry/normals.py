# SPDX-License-Identifier: Apache-2.0
"""Surface normals of a depth map, by finite differences of its points."""

from __future__ import annotations

import numpy as np

from diception_ros.geometry.camera import Float, Intrinsics
from diception_ros.geometry.points import depth_to_points


def normals_from_depth(depth: Float, intrinsics: Intrinsics) -> Float:
    """Metres (H, W) -> unit vectors (H, W, 3), optical frame, facing the camera; NaN where a
    neighbour is unknown. Central differences, one-sided at the border; not to be trusted across
    depth edges."""
    points = depth_to_points(depth, intrinsics)
    down, right = np.gradient(points, axis=(0, 1))
    normals = np.cross(down, right)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        normals = normals / np.where(length > 0, length, np.nan)
        away = (normals * points).sum(axis=-1, keepdims=True) > 0
    return np.where(away, -normals, normals).astype(np.float32)
