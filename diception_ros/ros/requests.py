# SPDX-License-Identifier: Apache-2.0
"""What the engine is asked about one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diception_ros.geometry import transform
from diception_ros.ros.answers import Frame
from diception_ros.ros.camera import intrinsics
from diception_ros.ros.incoming import Prompts
from diception_ros.ros.parameters import NodeParameters
from diception_ros.ros.transforms import FindPose
from diception_ros.tasks import Request, Task


@dataclass(frozen=True)
class Placed:
    """A request and the class id of its answer, 0 where there are no classes."""

    request: Request
    class_id: int = 0


def requests_for(tasks: Sequence[Task], parameters: NodeParameters) -> list[Placed]:
    """One request per task, and one per category of those that take one; points still missing."""
    found = []
    for task in tasks:
        settings = parameters.of_task(task.name)
        base = Request(task.name, steps=settings.steps or None, guidance=settings.guidance or None)
        if task.takes_category:
            found += [
                Placed(replace(base, category=category), class_id)
                for class_id, category in enumerate(parameters.categories, 1)
            ]
        else:
            found.append(Placed(base))
    return found


def seen(prompts: Prompts, frame: Frame, info: Any, find_pose: FindPose) -> Prompts | None:
    """Prompts with a place -> with the pixel at which the frame's camera sees it now, however the
    camera has moved since the click; None where it is not in view. info: CameraInfo, None where
    none has come. ValueError without one, and without the transform."""
    assert prompts.place is not None
    if info is None:
        raise ValueError("a click in space needs the camera info, and none has come")
    target, source = frame.header.frame_id, prompts.header.frame_id
    place = np.array([prompts.place], np.float32)
    if source != target:
        place = transform(place, find_pose(target, source, frame.header.stamp))
    x, y, z = (float(value) for value in place[0])
    camera = intrinsics(info, *frame.input_size)
    if not z > 0:
        return None
    column, row = camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy
    inside = 0 <= column < camera.width and 0 <= row < camera.height
    return replace(prompts, points=((column, row),)) if inside else None


def pointed(placed: Placed, prompts: Prompts, frame: Frame) -> Placed:
    """The request with the prompts' points, moved from the input image to the published size.
    ValueError for a point outside of the input image."""
    (width, height), (rows, columns) = frame.input_size, frame.rgb.shape[:2]
    for x, y in prompts.points:
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(f"point ({x:g}, {y:g}) lies outside the {width}x{height} image")
    points = tuple((x * columns / width, y * rows / height) for x, y in prompts.points)
    return replace(placed, request=replace(placed.request, points=points, labels=prompts.labels))
