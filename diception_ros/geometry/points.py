# SPDX-License-Identifier: Apache-2.0
"""Depth to an organised cloud, and a cloud to depth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.geometry.camera import Float, Intrinsics

STRIP = 64
"""Rows."""


def depth_to_points(depth: Float, intrinsics: Intrinsics) -> Float:
    """Metres along Z (H, W), NaN unknown -> (H, W, 3) metres in the optical frame, NaN unknown.

    x = (u - cx) z / fx, y = (v - cy) z / fy, as depth_image_proc computes it. ValueError if the
    depth's size is not the camera's.
    """
    check_size(depth, intrinsics)
    across, down = intrinsics.slopes()
    points = np.empty((*depth.shape, 3), np.float32)
    for rows in strips(len(depth)):
        z = np.asarray(depth[rows], np.float32)
        # OpenCV interleaves: numpy is slow where the last axis is three.
        cv2.merge([z * across, z * down[rows, None], z], points[rows])
    return points


def strips(height: int) -> Iterator[slice]:
    """An image's rows in strips, so that what is computed between stays in the cache."""
    for top in range(0, height, STRIP):
        yield slice(top, min(top + STRIP, height))


def project(points: Float, camera: Intrinsics) -> Float:
    """Points (N, 3) in metres in the optical frame -> depth image (H, W) in metres, the nearest
    point of each pixel, NaN where there is none."""
    depth = np.full((camera.height, camera.width), np.nan, np.float32)
    front = points[points[:, 2] > 0]
    columns = np.rint(camera.fx * front[:, 0] / front[:, 2] + camera.cx)
    rows = np.rint(camera.fy * front[:, 1] / front[:, 2] + camera.cy)
    seen = (columns >= 0) & (columns < camera.width) & (rows >= 0) & (rows < camera.height)
    far_first = np.argsort(-front[seen, 2])  # so that the nearest is written last
    pixels = rows[seen].astype(int)[far_first], columns[seen].astype(int)[far_first]
    depth[pixels] = front[seen, 2][far_first]
    return depth


def transform(points: Float, pose: Sequence[float]) -> Float:
    """Points (N, 3) by a pose x y z qx qy qz qw: of their frame, in the one wanted."""
    return np.asarray(points @ rotation(pose[3:]).T + np.array(pose[:3]), np.float32)


def rotation(quaternion: Sequence[float]) -> npt.NDArray[np.float64]:
    """Rotation matrix (3, 3) of a unit quaternion x y z w."""
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def check_size(depth: Float, intrinsics: Intrinsics) -> None:
    if depth.shape != (intrinsics.height, intrinsics.width):
        raise ValueError(
            f"depth is {depth.shape[1]}x{depth.shape[0]}, the camera's image "
            f"{intrinsics.width}x{intrinsics.height}: scale the intrinsics first"
        )
