# SPDX-License-Identifier: Apache-2.0
"""Cameras, clouds, normals and metric scale; plain numpy."""

from diception_ros.geometry.camera import Intrinsics
from diception_ros.geometry.floor import fit_floor, floor_depth
from diception_ros.geometry.normals import normals_from_depth
from diception_ros.geometry.points import depth_to_points, project, rotation, strips, transform
from diception_ros.geometry.scale import (
    ScaleFit,
    apply_scale,
    fit_disparity,
    relative_error,
    smooth_fit,
)

__all__ = [
    "Intrinsics",
    "ScaleFit",
    "apply_scale",
    "depth_to_points",
    "fit_disparity",
    "fit_floor",
    "floor_depth",
    "normals_from_depth",
    "project",
    "relative_error",
    "rotation",
    "smooth_fit",
    "strips",
    "transform",
]
