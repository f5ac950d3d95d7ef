# SPDX-License-Identifier: Apache-2.0
"""Depth to an organised cloud."""

from __future__ import annotations

from diception_ros.geometry.camera import Float, Intrinsics


def depth_to_points(depth: Float, intrinsics: Intrinsics) -> Float:
    """Metres along Z (H, W), NaN unknown -> (H, W, 3) metres in the optical frame, NaN unknown.

    x = (u - cx) z / fx, y = (v - cy) z / fy, as depth_image_proc computes it. ValueError if the
    depth's size is not the camera's.
    """
    check_size(depth, intrinsics)
    return intrinsics.rays() * depth[..., None]


def check_size(depth: Float, intrinsics: Intrinsics) -> None:
    if depth.shape != (intrinsics.height, intrinsics.width):
        raise ValueError(
            f"depth is {depth.shape[1]}x{depth.shape[0]}, the camera's image "
            f"{intrinsics.width}x{intrinsics.height}: scale the intrinsics first"
        )
