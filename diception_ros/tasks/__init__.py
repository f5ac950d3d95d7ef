# SPDX-License-Identifier: Apache-2.0
"""What the generated colours mean: one file per task, mirror-image encode and decode.

Training and serving share both, so they cannot drift apart. A new task is one file and one line
in TASKS, or an entry of a YAML file (`load_tasks`).
"""

from diception_ros.tasks import depth, entity, normal, point, pose, semantic
from diception_ros.tasks.coco import COCO_CATEGORIES
from diception_ros.tasks.custom import load_tasks
from diception_ros.tasks.depth import disparity_from_depth, farthest_disparity
from diception_ros.tasks.types import (
    MAX_POINTS,
    Colours,
    Disparity,
    Instance,
    Instances,
    Keypoints,
    Mask,
    MetricDepth,
    Normals,
    Refinement,
    Request,
    Result,
    Task,
)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (depth.TASK, normal.TASK, entity.TASK, semantic.TASK, point.TASK, pose.TASK)
}

__all__ = [
    "COCO_CATEGORIES",
    "MAX_POINTS",
    "TASKS",
    "Colours",
    "Disparity",
    "Instance",
    "Instances",
    "Keypoints",
    "Mask",
    "MetricDepth",
    "Normals",
    "Refinement",
    "Request",
    "Result",
    "Task",
    "disparity_from_depth",
    "farthest_disparity",
    "load_tasks",
]
