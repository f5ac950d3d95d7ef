# SPDX-License-Identifier: Apache-2.0
"""What is wrong with parameters, alone and in company: ValueError with the reason."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from diception_ros.ros.spec import values_of

if TYPE_CHECKING:
    from diception_ros.ros.parameters import NodeParameters

CAMERA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
MAX_CATEGORIES = 255
"""Class ids are 8 bit and 0 is the background."""


def check_ranges(parameters: NodeParameters) -> None:
    """ValueError naming the first value outside its bounds or choices."""
    found = values_of(parameters, "")
    for task, settings in parameters.per_task.items():
        found += values_of(settings, f"{task}.")
    for name, value, spec in found:
        if spec.bounds and not spec.bounds[0] <= value <= spec.bounds[1]:
            low, high = spec.bounds
            raise ValueError(f"{name} must be within {low:g} and {high:g} {spec.unit}, got {value}")
        if spec.choices and value not in spec.choices:
            raise ValueError(f"{name} must be one of {', '.join(spec.choices)}, got '{value}'")


def check_together(parameters: NodeParameters) -> None:
    """ValueError for values that are fine alone but not in company."""
    if parameters.min_depth >= parameters.max_depth:
        raise ValueError(
            f"min_depth {parameters.min_depth:g} m must be less than max_depth "
            f"{parameters.max_depth:g} m"
        )
    if parameters.scale.source == "fixed" and parameters.scale.fixed.scale <= 0:
        raise ValueError("scale.source fixed needs scale.fixed.scale > 0 (1/m)")
    if parameters.scale.source != "none" and not parameters.offers("depth"):
        raise ValueError(f"scale.source {parameters.scale.source} needs 'depth' among the tasks")
    _check_names(parameters)
    _check_cloud(parameters)
    _check_pose(parameters.scale.reference.extrinsics)
    parameters.engine_config()


def _check_names(parameters: NodeParameters) -> None:
    for name in parameters.cameras:
        if not CAMERA_NAME.fullmatch(name):
            raise ValueError(
                f"cameras: '{name}' is no name: expected letters, digits and _, a letter first"
            )
    for name in ("tasks", "categories", "adapters", "cameras"):
        values = getattr(parameters, name)
        if len(set(values)) != len(values):
            raise ValueError(f"{name}: a name is given twice in {', '.join(values)}")
    if len(parameters.categories) > MAX_CATEGORIES:
        raise ValueError(
            f"categories: at most {MAX_CATEGORIES}, got {len(parameters.categories)} "
            "(class ids are 8 bit)"
        )


def _check_cloud(parameters: NodeParameters) -> None:
    for field_name, task in (("normals", "normal"), ("label", "semantic")):
        if getattr(parameters.cloud, field_name) and not parameters.offers(task):
            raise ValueError(f"cloud.{field_name} needs '{task}' among the tasks")
        if getattr(parameters.cloud, field_name) and parameters.cloud.voxel:
            raise ValueError(
                f"cloud.{field_name} needs a cloud of rows and columns, which cloud.voxel "
                f"{parameters.cloud.voxel:g} m leaves none of: turn one of them off"
            )


def _check_pose(pose: Sequence[float]) -> None:
    finite = all(math.isfinite(part) for part in pose)
    if len(pose) != 7 or not finite or abs(sum(part * part for part in pose[3:]) - 1) > 1e-3:
        raise ValueError(
            "scale.reference.extrinsics must be x y z and a unit quaternion qx qy qz qw, "
            f"got {list(pose)}"
        )
