# SPDX-License-Identifier: Apache-2.0
"""Cameras, clouds, normals and metric scale; plain numpy."""

from diception_ros.geometry.camera import Intrinsics
from diception_ros.geometry.normals import normals_from_depth
from diception_ros.geometry.points import depth_to_points
from diception_ros.geometry.scale import ScaleFit, apply_scale, fit_disparity

__all__ = [
    "Intrinsics",
    "ScaleFit",
    "apply_scale",
    "depth_to_points",
    "fit_disparity",
    "normals_from_depth",
]
